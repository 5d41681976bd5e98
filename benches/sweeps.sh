#!/usr/bin/env bash
# What a sweep takes, in replays of the same log, and whether its rows are those of single replays: benches/sweeps.sh [FOLDER]
#
# On a million lines of counts (see benches/corpus.rs), and on the made-up log of a team with something wrong every other day (see
# benches/incidents). A log is replayed three times and swept three times, medians are taken; of each sweep the first, the middle and
# the last row are held against a replay with that setting alone. Needs jq.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-$(mktemp -d)}
ours=${CARGO_TARGET_DIR:-target}/release/claude-tokmon
mkdir -p "$folder"
command -v jq >/dev/null || { echo "sweeps.sh: jq is needed" >&2; exit 2; }

[ -f "$folder/counts.jsonl" ] || cargo bench --quiet --bench corpus -- b 214000000 "$folder/counts.jsonl"
[ -f "$folder/Team-9402.jsonl" ] || INCIDENTS_LOGS=$folder cargo bench --quiet --bench incidents -- 9402 >/dev/null
# Last, because a bench builds it with what tests need besides.
cargo build --release --quiet

seconds() {
  local TIMEFORMAT=%R
  for _ in 1 2 3; do { time "$ours" replay --config - "$@" >/dev/null 2>&1; } 2>&1; done | sort -n | sed -n 2p
}
rows() { "$ours" replay --config - --json "$@" 2>/dev/null | jq -c 'select(.event == "sweep")'; }
# What a row says, and what a replay with its settings says: a sweep of something that changes nothing has one row.
figures='[.alerts, .notices, .seconds_on, .exposed_usd]'
is_single() {
  local row=$1 log=$2 settings=()
  while read -r setting; do settings+=(--set "$setting"); done < <(jq -r '.set | to_entries[]
    | "\(.key)=" + (.value | if test("^([0-9.]+|true|false|\\[.*)$") then . else "\"\(.)\"" end)' <<<"$row")
  [ "$(jq -c "$figures" <<<"$row")" = "$(rows "${settings[@]}" --sweep unpriced-model.enabled=true "$log" | jq -c "$figures")" ]
}

differ=0
try() {
  local log=$folder/$1.jsonl args=() all=() n wrong=0 took
  shift
  for sweep in "$@"; do args+=(--sweep "$sweep"); done
  mapfile -t all < <(rows "${args[@]}" "$log")
  n=${#all[@]}
  for row in "${all[0]}" "${all[n / 2]}" "${all[n - 1]}"; do is_single "$row" "$log" || wrong=$((wrong + 1)); done
  differ=$((differ + wrong))
  took=$(seconds "${args[@]}" "$log")
  printf '  %6s settings %8s s %6s ×   %s%s\n' "$n" "$took" "$(jq -n "$took / $one * 10 | round / 10")" "$*" \
    "$([ "$wrong" = 0 ] || echo "   $wrong of 3 rows are not those of single replays")"
}
begin() {
  one=$(seconds "$folder/$1.jsonl")
  echo "$1: $(wc -l <"$folder/$1.jsonl") lines, one replay $one s"
}

echo "$(nproc) cores; $($ours --version)"
begin counts
try counts cost-rate.above=10..1009:1
try counts cost-rate.above=0.01..10:0.01
try counts cost-rate.window=1m..10m:1m cost-rate.above=0.1..10:0.1
begin Team-9402
try Team-9402 cost-rate.above=0.1..10:0.1
try Team-9402 cost-rate.above=0.01..10:0.01
try Team-9402 cache-waste.above=0.05..5:0.05
try Team-9402 cache-miss.above=0.01..0.99:0.01
try Team-9402 request-cost.beyond_busy=1.04..5:0.04
try Team-9402 session-cost.floor=0.1..10:0.1
try Team-9402 session-cost.beyond_busy=1.04..5:0.04
try Team-9402 session-long.times_usual=1.05..6:0.05
try Team-9402 cache-break.above=1..20:1
try Team-9402 session-cost.keep_firing=0s,5m,1h session-cost.above=0.3,0.7,2 cost-rate.above=1,2,4
[ "$differ" = 0 ]
