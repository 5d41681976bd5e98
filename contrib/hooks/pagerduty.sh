#!/bin/sh
# Opens and closes incidents in PagerDuty, one for each episode.
#
#   CLAUDE_TOKMON_PAGERDUTY_KEY=… \
#   claude-tokmon tail --exec-format pagerduty --exec contrib/hooks/pagerduty.sh app.log
#
# Ends with 75 if PagerDuty cannot take it now, so that it is tried again.
set -u
url=${PAGERDUTY_URL:-https://events.pagerduty.com/v2/enqueue}
code=$(curl -sS -m 5 -o /dev/null -w '%{http_code}' -H 'content-type: application/json' --data-binary @- "$url") || exit 75
case $code in
    2??) exit 0 ;;
    429 | 5??) exit 75 ;;
    *) echo "PagerDuty answers $code" >&2; exit 1 ;;
esac
