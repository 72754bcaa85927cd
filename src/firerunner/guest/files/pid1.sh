#!/bin/sh
# FireRunner guest, second stage: process 1 of the running system.
#
# Tells the gate `booted`, unpacks what the gate answers, lets gitlab-runner take its one job, tells the
# gate `ended`, reboots (which ends the VM). It must never exit, and never wait for ever: each end of
# this script is a reboot. Children that a job leaves behind become ours; the shell reaps them while it
# waits for the runner, and the reboot ends those that still run.

RUN=/run/firerunner
BUSYBOX=$RUN/busybox
GATE_PATIENCE_S=300

say() {
    read -r uptime _ < /proc/uptime
    echo "firerunner: $uptime $*"
}

# shellcheck disable=SC2317 # reached by the trap
reboot_now() {
    trap - EXIT
    sync
    exec "$BUSYBOX" reboot -f
}

# call PATH BODY ANSWER: POST to the gate, again and again while it cannot be reached or asks to wait.
# Fails at once on any other refusal.
call() {
    waited_s=0
    while [ "$waited_s" -lt "$GATE_PATIENCE_S" ]; do
        result=$(curl -sS -m 60 -H "@$RUN/header" --data-binary "$2" -o "$3" \
            -w '%{http_code} %header{retry-after}' "$gate_url/$1")
        code=${result%% *}
        delay_s=${result#* }
        case $code in
            2??) return 0 ;;
            000 | 5??) ;;
            *)
                say "the gate answered $code to $1"
                return 1
                ;;
        esac
        case $delay_s in
            [1-9] | [1-5][0-9]) ;;
            *) delay_s=1 ;;
        esac
        say "the gate is not there for $1 ($code), again in $delay_s s"
        sleep "$delay_s"
        waited_s=$((waited_s + delay_s))
    done
    return 1
}

trap reboot_now EXIT
cd / || exit
umask 022
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root USER=root LOGNAME=root SHELL=/bin/bash LANG=C.UTF-8
unset TERM

machine_id='' gate_url='' credential=''
while IFS='=' read -r key value; do
    case $key in
        machine_id) machine_id=$value ;;
        gate_url) gate_url=$value ;;
        credential) credential=$value ;;
    esac
done < "$RUN/boot"
# Unique to this machine: what it adds sets apart machines that were restored from one saved state.
cat "$RUN/boot" > /dev/urandom
rm "$RUN/boot"
(umask 077 && echo "Authorization: Bearer $credential" > "$RUN/header")

echo "$machine_id" > /proc/sys/kernel/hostname
echo "127.0.0.1 localhost
127.0.1.1 $machine_id" > /etc/hosts
read -r uuid < /proc/sys/kernel/random/uuid
echo "$uuid" | tr -d - > /etc/machine-id

say "pid 1 of $machine_id"
call guest/booted '' "$RUN/booted.tar" || exit
say booted
tar -x -f "$RUN/booted.tar" -C / || exit
rm "$RUN/booted.tar"
read -r epoch < "$RUN/epoch" && date -s "@$epoch" > /dev/null
[ ! -e "$RUN/hosts" ] || cat "$RUN/hosts" >> /etc/hosts
[ ! -e "$RUN/seed" ] || cat "$RUN/seed" > /dev/urandom
if [ -e "$RUN/env" ]; then
    while IFS= read -r line; do
        case $line in
            [A-Za-z_]*=*) export "${line?}" ;;
        esac
    done < "$RUN/env"
fi

say runner
gitlab-runner run-single --config "$RUN/config.toml" --runner firerunner --max-builds 1 --wait-timeout 600 \
    < /dev/null
exit_code=$?
say "runner exited with $exit_code"
call guest/ended "exit_code=$exit_code" /dev/null
say ended
exit
