#!/bin/sh
# Gives alerts to Alertmanager, and takes them back when they are resolved. Alertmanager forgets an alert that is not repeated:
# set its resolve_timeout above the pause between repeats (up to 4 h), or route these alerts by their label episode.
#
#   ALERTMANAGER_URL=http://localhost:9093 \
#   claude-tokmon tail --exec-format alertmanager --exec contrib/hooks/alertmanager.sh app.log
#
# Ends with 75 if Alertmanager cannot take it now, so that it is tried again.
set -u
url=${ALERTMANAGER_URL:-http://localhost:9093}/api/v2/alerts
code=$(curl -sS -m 5 -o /dev/null -w '%{http_code}' -H 'content-type: application/json' --data-binary @- "$url") || exit 75
case $code in
    2??) exit 0 ;;
    429 | 5??) exit 75 ;;
    *) echo "Alertmanager answers $code" >&2; exit 1 ;;
esac
