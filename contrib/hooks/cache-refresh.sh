#!/bin/sh
# Warms a prompt cache that was lost, once for each episode: runs CACHE_REFRESH_CMD, which should send your cached prefix with
# max_tokens 1. Only where the entry was not read though it should have been there (rewritten, partial, ttl-changed): a prompt
# without cache_control (dropped) cannot be warmed, that is for a person.
#
#   CACHE_REFRESH_CMD='./warm.sh' claude-tokmon tail --exec contrib/hooks/cache-refresh.sh app.log
set -eu
: "${CACHE_REFRESH_CMD:?set it to the command that sends your cached prefix}"
[ "${CLAUDE_TOKMON_RULE:-}" = cache-break ] || exit 0
[ "${CLAUDE_TOKMON_REASON:-}" = first ] || exit 0
case ${CLAUDE_TOKMON_CAUSE:-} in
    rewritten | partial | ttl-changed) exec sh -c "$CACHE_REFRESH_CMD" ;;
esac
