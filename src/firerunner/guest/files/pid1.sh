#!/bin/sh
# FireRunner guest, second stage: process 1 of the running system.
#
# Tells the gate `booted`, unpacks what the gate answers, lets gitlab-runner take its one job, tells the
# gate `ended`, reboots (which ends the VM). It must never exit, and never wait for ever: each end of
# this script is a reboot. Children that a job leaves behind become ours; the shell reaps them while it
# waits for the runner, and the reboot ends those that still run.
#
# The shell and its small tools are the busybox of the initramfs, which is in memory already. From the
# image it needs gitlab-runner only.

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
    "$BUSYBOX" sync
    exec "$BUSYBOX" reboot -f
}

# call PATH BODY ANSWER: POST to the gate, every second until it can be reached and is ready (busybox wget
# keeps a Retry-After from us). Fails at once on a refusal. wget's own time limit (-T) crashes in Debian's
# static busybox. The credential is an argument only while no other process runs, or those of a job that
# was root and could read it in config.toml.
call() {
    read -r now_s _ < /proc/uptime
    deadline_s=$((${now_s%.*} + GATE_PATIENCE_S))
    while [ "${now_s%.*}" -lt "$deadline_s" ]; do
        "$BUSYBOX" timeout 60 "$BUSYBOX" wget -S -O "$3" --header "Authorization: Bearer $credential" \
            --post-data "$2" "$gate_url/$1" 2> "$RUN/said" && return 0
        answer=$("$BUSYBOX" grep -m 1 -o 'HTTP/1.*' "$RUN/said")
        case $answer in
            HTTP/*' '[1-4]*)
                say "$1: the gate refused: $answer"
                return 1
                ;;
        esac
        say "$1: the gate is not there: ${answer:-no answer}"
        "$BUSYBOX" sleep 1
        read -r now_s _ < /proc/uptime
    done
    return 1
}

# export_lines FILE: one NAME=value in each line, of which nothing is expanded.
export_lines() {
    [ -e "$1" ] || return 0
    while IFS= read -r line; do
        case $line in
            [A-Za-z_]*=*) export "${line?}" ;;
        esac
    done < "$1"
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
"$BUSYBOX" rm "$RUN/boot"
# Unique to this machine: sets apart machines that were restored from one saved state.
echo "$machine_id $credential" > /dev/urandom

echo "$machine_id" > /proc/sys/kernel/hostname
echo "127.0.0.1 localhost
127.0.1.1 $machine_id" > /etc/hosts
IFS=- read -r a b c d e < /proc/sys/kernel/random/uuid
echo "$a$b$c$d$e" > /etc/machine-id

say "pid 1 of $machine_id"
call guest/booted '' "$RUN/booted.tar" || exit
say booted
"$BUSYBOX" tar -x -f "$RUN/booted.tar" -C / || exit
"$BUSYBOX" rm "$RUN/booted.tar"
read -r epoch < "$RUN/epoch" && "$BUSYBOX" date -s "@$epoch" > /dev/null
[ ! -e "$RUN/hosts" ] || cat "$RUN/hosts" >> /etc/hosts
[ ! -e "$RUN/seed" ] || cat "$RUN/seed" > /dev/urandom
[ ! -e "$RUN/trust.pem" ] || cat "$RUN/trust.pem" >> /etc/ssl/certs/ca-certificates.crt
export_lines /etc/firerunner/environment
export_lines "$RUN/env"

# Requests to the engine wait in its socket until it is ready, so nothing but the socket is waited for.
if [ -x /usr/sbin/dockerd ]; then
    say docker
    [ -e "$RUN/docker-daemon.json" ] || echo '{}' > "$RUN/docker-daemon.json"
    dockerd --config-file "$RUN/docker-daemon.json" > /var/log/dockerd.log 2>&1 &
    tries=0
    until [ -S /var/run/docker.sock ] || [ "$tries" -gt 600 ]; do
        tries=$((tries + 1))
        "$BUSYBOX" sleep 0.1
    done
    [ -S /var/run/docker.sock ] || "$BUSYBOX" tail -n 5 /var/log/dockerd.log
fi

say runner
gitlab-runner run-single --config "$RUN/config.toml" --runner firerunner --max-builds 1 --wait-timeout 600 \
    < /dev/null
exit_code=$?
say "runner exited with $exit_code"
call guest/ended "exit_code=$exit_code" "$RUN/answer"
say ended
exit
