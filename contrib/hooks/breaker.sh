#!/bin/sh
# A circuit breaker: a file that exists while any critical alert is on. A service that looks for it before each request stops
# spending by itself:   test -e /run/tokmon/open && exit 1
#
#   BREAKER_DIR=/run/tokmon claude-tokmon tail --exec contrib/hooks/breaker.sh app.log
#
# Each open episode is a file of its own, so that the end of one does not close the breaker of another.
set -eu
dir=${BREAKER_DIR:?set it to a directory for the breaker}
[ "${CLAUDE_TOKMON_SEVERITY:-}" = critical ] || exit 0
case ${CLAUDE_TOKMON_EPISODE:-} in
    '' | *[!0-9a-f]*) exit 1 ;;
esac
mkdir -p "$dir/episodes"
if [ "$CLAUDE_TOKMON_REASON" = resolved ]; then
    rm -f "$dir/episodes/$CLAUDE_TOKMON_EPISODE"
else
    printf '%s\n' "$CLAUDE_TOKMON_MESSAGE" > "$dir/episodes/$CLAUDE_TOKMON_EPISODE"
fi
if [ -n "$(ls -A "$dir/episodes")" ]; then
    cat "$dir/episodes"/* > "$dir/open.new" && mv "$dir/open.new" "$dir/open"
else
    rm -f "$dir/open"
fi
