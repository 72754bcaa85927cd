#!/usr/bin/env bash
# progress.sh MESSAGE COMMAND...: runs a command quietly, shows that it is alive, and its output if it fails.
set -uo pipefail

message=$1
shift
log=$(mktemp)
"$@" > "$log" 2>&1 &
pid=$!
trap 'kill "$pid" 2> /dev/null; rm -f "$log"; exit 130' INT TERM
printf '%s ' "$message" >&2
while kill -0 "$pid" 2> /dev/null; do
    sleep 1
    printf . >&2
done
wait "$pid"
status=$?
echo >&2
[ "$status" = 0 ] || tail -n 20 "$log" >&2
rm -f "$log"
exit "$status"
