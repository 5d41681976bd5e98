#!/usr/bin/env bash
# How long a replay takes, beside other programs on the same file, and tail of what comes through a pipe: benches/compare.sh [BYTES [FOLDER]]
#
# Writes logs of four kinds (see benches/corpus.rs), checks that all programs find the same sums, and only then times them in
# turn: medians, and how many times as long as `wc -l`. The fourth, a day of short sessions, is for ours alone: its memory. Needs
# hyperfine and jq; uses rg, DuckDB (Python package) and ccusage where they are installed. A program that is not installed is said
# to be missing.
set -euo pipefail
cd "$(dirname "$0")/.."

bytes=${1:-1000000000}
folder=${2:-$(mktemp -d)}
runs=${RUNS:-5}
ours=${CARGO_TARGET_DIR:-target}/release/claude-tokmon
mkdir -p "$folder"

for tool in hyperfine jq; do
  command -v "$tool" >/dev/null || { echo "compare.sh: $tool is needed" >&2; exit 2; }
done
for kind in a b c s; do
  size=$bytes
  [ "$kind" = b ] && size=$((bytes / 2))
  [ "$kind" = s ] && size=226000000
  [ -f "$folder/$kind.jsonl" ] || cargo bench --quiet --bench corpus -- "$kind" "$size" "$folder/$kind.jsonl"
done
# Last, because a bench builds it with what tests need besides.
cargo build --release --quiet
echo "$(nproc) cores; $($ours --version); $(jq --version); $(rg --version 2>/dev/null | head -1 || echo 'no rg')"

# The output tokens of all responses, each counted once, as each program finds them.
tokens_ours() { "$ours" replay --json --quiet --config - "$1" 2>/dev/null | tail -1 | jq .tokens.output; }
jq_command() {
  case $2 in
    a) echo "jq -n 'reduce (inputs | .message.usage.output_tokens) as \$n (0; . + \$n)' $1" ;;
    b) echo "jq -n 'reduce (inputs | .usage.output_tokens) as \$n (0; . + \$n)' $1" ;;
    c) echo "jq -n 'reduce (inputs | select(.type == \"assistant\") | .message | {key: .id, value: .usage.output_tokens})
              as \$m ({}; .[\$m.key] = \$m.value) | add' $1" ;;
  esac
}
duckdb_query() {
  case $2 in
    a) echo "SELECT sum(message.usage.output_tokens) FROM read_json('$1', format='newline_delimited',
             columns={message: 'STRUCT(usage STRUCT(output_tokens BIGINT))'})" ;;
    b) echo "SELECT sum(usage.output_tokens) FROM read_json('$1', format='newline_delimited',
             columns={usage: 'STRUCT(output_tokens BIGINT)'})" ;;
    c) echo "SELECT sum(n) FROM (SELECT max(message.usage.output_tokens) n FROM read_json('$1', format='newline_delimited',
             columns={type: 'VARCHAR', message: 'STRUCT(id VARCHAR, usage STRUCT(output_tokens BIGINT))'},
             maximum_object_size=33554432) WHERE type = 'assistant' GROUP BY message.id)" ;;
  esac
}
has_duckdb() { python3 -c 'import duckdb' 2>/dev/null; }
duckdb_command() { echo "python3 -c \"import duckdb; print(duckdb.sql('''$(duckdb_query "$1" "$2")''').fetchall()[0][0])\""; }

# It looks for transcripts in folders of projects, and follows no links.
ccusage_command() { echo "env CLAUDE_CONFIG_DIR='$folder/claude' ccusage daily --offline --json"; }
tokens_ccusage() {
  mkdir -p "$folder/claude/projects/p"
  ln -f "$1" "$folder/claude/projects/p/" 2>/dev/null || cp "$1" "$folder/claude/projects/p/"
  eval "$(ccusage_command)" 2>/dev/null | jq .totals.outputTokens
}

median() { jq -r '.results[0].median' "$1"; }
peak() { /usr/bin/time -f %M "$@" 2>&1 >/dev/null | tail -1; }

for kind in a b c; do
  log="$folder/$kind.jsonl"
  cat "$log" >/dev/null

  sum=$(tokens_ours "$log")
  small="$folder/$kind.head"
  head -n 20000 "$log" >"$small"
  expected=$(eval "$(jq_command "$small" "$kind")")
  [ "$(tokens_ours "$small")" = "$expected" ] || { echo "$kind: our sum of output tokens is not that of jq" >&2; exit 1; }
  names=("wc -l" "ours") commands=("wc -l $log" "$ours replay --quiet --config - $log")
  if command -v rg >/dev/null; then
    names+=("rg -c usage") commands+=("rg -c '\"usage\"' $log")
  fi
  if has_duckdb; then
    [ "$(eval "$(duckdb_command "$log" "$kind")")" = "$sum" ] || { echo "$kind: our sum of output tokens is not that of DuckDB" >&2; exit 1; }
    names+=("DuckDB, sums") commands+=("$(duckdb_command "$log" "$kind")")
  else
    echo "$kind: DuckDB is not installed"
  fi
  if [ "$kind" = c ] && ! command -v ccusage >/dev/null; then
    echo "$kind: ccusage is not installed"
  elif [ "$kind" = c ]; then
    tokens=$(tokens_ccusage "$log" || true)
    [ -n "$tokens" ] || { echo "$kind: ccusage is installed but does not run" >&2; exit 1; }
    [ "$tokens" = "$sum" ] || { echo "$kind: our sum of output tokens is not that of ccusage" >&2; exit 1; }
    names+=("ccusage $(ccusage --version | grep -o '[0-9.]*' | head -1)") commands+=("$(ccusage_command)")
  fi

  echo "$kind: $(wc -c <"$log") bytes, $(wc -l <"$log") lines; $sum output tokens in all"
  base=
  for i in "${!names[@]}"; do
    cat "$log" >/dev/null
    hyperfine --warmup 1 --runs "$runs" --export-json "$folder/result.json" --output null --style none "${commands[$i]}" 2>/dev/null >&2
    seconds=$(median "$folder/result.json")
    base=${base:-$seconds}
    jq -nr --arg name "${names[$i]}" --argjson s "$seconds" --argjson b "$base" \
      '"  \($name): \($s * 1000 | round) ms, \($s / $b * 10 | round / 10) × wc -l"'
  done
  # jq takes too long for the whole.
  one=$(hyperfine --runs 1 --export-json "$folder/result.json" --output null --style none "$ours replay --quiet --config - $small" 2>/dev/null >&2; median "$folder/result.json")
  other=$(hyperfine --runs 1 --export-json "$folder/result.json" --output null --style none "$(jq_command "$small" "$kind")" 2>/dev/null >&2; median "$folder/result.json")
  jq -nr --argjson a "$one" --argjson b "$other" '"  jq, the same sum of the first 20,000 lines: \($b / $a * 10 | round / 10) × ours"'
  if [ "$kind" = b ]; then
    # What is as old as this log counts only if that much is asked for.
    piped="cat $log | $ours tail --config - --backfill 3650d -"
    records=$("$ours" replay --json --quiet --config - "$log" 2>/dev/null | tail -1 | jq .records)
    eval "$piped" 2>&1 | tr -d , | grep -q ": $records responses" || { echo "$kind: tail counts other responses from a pipe" >&2; exit 1; }
    hyperfine --warmup 1 --runs "$runs" --export-json "$folder/result.json" --output null --style none "$piped" 2>/dev/null >&2
    jq -nr --argjson s "$(median "$folder/result.json")" --argjson n "$records" \
      '"  tail, from a pipe: \($s * 1000 | round) ms, \($n / $s / 10000 | round / 100) million responses a second"'
  fi
  echo "  peak memory: $(($(peak "$ours" replay --quiet --config - "$log") / 1024)) MiB"
done

log="$folder/s.jsonl"
records=$(wc -l <"$log")
counted=$("$ours" replay --json --quiet --config - "$log" 2>/dev/null | tail -1 | jq .records)
[ "$counted" = "$records" ] || { echo "s: $counted responses in $records lines" >&2; exit 1; }
hyperfine --warmup 1 --runs "$runs" --export-json "$folder/result.json" --output null --style none "$ours replay --quiet --config - $log" 2>/dev/null >&2
jq -nr --argjson s "$(median "$folder/result.json")" --argjson n "$records" \
  '"s: \($n) responses of \($n / 3 | round) sessions: \($s * 1000 | round) ms, \($s / $n * 1e7 | round / 10) µs a response"'
echo "  peak memory: $(($(peak "$ours" replay --quiet --config - "$log") / 1024)) MiB; of tail: $(($(peak "$ours" tail --config - --backfill 3650d - < <(cat "$log")) / 1024)) MiB"
