#!/usr/bin/env bash
# What --suggest proposes from the first half of the made-up logs of `incidents`, and what it comes to on the second half.
# Needs jq. SEEDS names the seeds.
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${SEEDS:-"9401 9402 9403 9404"}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

cargo build --release --quiet
# shellcheck disable=SC2086
INCIDENTS_LOGS=$dir cargo bench --quiet --bench incidents -- $seeds >/dev/null
bin=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)/release/claude-tokmon

printf '%-16s %20s %20s   %s\n' log "first half" "second half" "what is set"
for log in "$dir"/*.jsonl; do
    "$bin" replay --json --config - --labels "${log%.jsonl}.incidents" --response 10m \
        --suggest --train-until 2026-09-24T12:00:00Z "$log" 2>/dev/null |
        jq -r --arg log "$(basename "$log" .jsonl)" 'select(.event == "suggestion")
            | [$log, (.parts[] | "$\(.present.cost_usd | floor) to $\(.suggested.cost_usd | floor)"), (.set | join(" "))] | @tsv' |
        awk -F'\t' '{printf "%-16s %20s %20s   %s\n", $1, $2, $3, $4}'
done
