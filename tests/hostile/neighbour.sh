#!/bin/sh
# An honest job: says one line a second for SECONDS_LONG, and would say so if anybody came to see it.
set -eu
busybox=/run/firerunner/busybox
(while echo hello | "$busybox" nc -l -p 7777 > /dev/null; do echo "A STRANGER CAME"; done) &
stranger=$!
: > said.txt
second=1
while [ "$second" -le "$SECONDS_LONG" ]; do
    echo "neighbour $NONCE says $second" | tee -a said.txt
    second=$((second + 1))
    sleep 1
done
kill "$stranger"
echo "neighbour $NONCE is done"
