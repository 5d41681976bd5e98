#!/bin/sh
# Posts each notice to Slack.
#
#   SLACK_WEBHOOK_URL=https://hooks.slack.com/services/… \
#   claude-tokmon tail --exec-format slack --exec contrib/hooks/slack.sh app.log
#
# Ends with 75 if Slack cannot take it now, so that it is tried again.
set -u
: "${SLACK_WEBHOOK_URL:?set it to the address of your incoming webhook}"
code=$(curl -sS -m 5 -o /dev/null -w '%{http_code}' -H 'content-type: application/json' --data-binary @- "$SLACK_WEBHOOK_URL") || exit 75
case $code in
    2??) exit 0 ;;
    429 | 5??) exit 75 ;;
    *) echo "Slack answers $code" >&2; exit 1 ;;
esac
