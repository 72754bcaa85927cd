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
#
# With the argument `template` it waits, before it needs to know who it is, to be saved and restored.

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

# What every job starts is read once, so that it is in the memory of all machines of this state.
warm_pages() {
    for program in /bin/bash /bin/sed /usr/bin/curl /usr/bin/git /usr/bin/jq /usr/bin/setsid \
        /usr/lib/git-core/git-remote-http /usr/local/bin/gitlab-runner /usr/bin/gitlab-runner; do
        [ -x "$program" ] || continue
        "$BUSYBOX" cat "$program" > /dev/null
        "$program" --version > /dev/null 2>&1 < /dev/null
    done
}

# Waits, without end, to be restored. What the line says takes no way that was open before the save. It comes
# by descriptor 4 from the program that has then renewed what all machines of one saved state would share.
become_template() {
    warm_pages
    for file in hosts machine-id; do
        : >> "/etc/$file" # which brings it to the disk
    done
    "$BUSYBOX" sync # what is not on the disk yet would be written by each machine
    say template
    if ! read -r machine_id gate_url credential _ <&4; then
        say "cannot boot: clock, random numbers and disk of a saved state cannot be renewed"
        exit
    fi
    exec 4<&- # and that program ends
    clock_is_set=1
    say restored
    say named
}

# The driver has put the lines where the first stage found them.
read_parameters() {
    while IFS='=' read -r key value; do
        case $key in
            machine_id) machine_id=$value ;;
            gate_url) gate_url=$value ;;
            credential) credential=$value ;;
        esac
    done < "$RUN/boot"
    : > "$RUN/boot"
}

# A guest of another host gets its address by DHCP; udhcpc stays and renews it.
start_network() {
    [ -e "$RUN/link" ] || return 0
    read -r link < "$RUN/link"
    "$BUSYBOX" ip link set "$link" up
    "$BUSYBOX" udhcpc -i "$link" -s "$RUN/dhcp.sh" -t 60 -T 1 -A 1 -n || say "no address from DHCP in 60 s"
    say network
}

# post URL BODY ANSWER: one POST, what was said in $RUN/said. A body of @FILE is what stands in that file. A gate by HTTPS is told by its certificate,
# which busybox does not look at. wget's own time limit (-T) crashes in Debian's static busybox. The
# credential is an argument only while no other process runs, or those of a job that was root and could read
# it in config.toml.
post() {
    case $1 in
        https:*)
            set -- "$@" --http1.1 --silent --show-error --fail --max-time 60
            [ ! -e "$RUN/gate-ca.pem" ] || set -- "$@" --cacert "$RUN/gate-ca.pem"
            url=$1 body=$2 answer=$3
            shift 3
            curl "$@" --dump-header "$RUN/said" --output "$answer" --data-binary "$body" \
                --header "Authorization: Bearer $credential" "$url" 2> "$RUN/error" && return 0
            cat "$RUN/error" >> "$RUN/said"
            return 1
            ;;
        *)
            case $2 in
                @*) set -- "$1" "--post-file=${2#@}" "$3" ;;
                *) set -- "$1" "--post-data=$2" "$3" ;;
            esac
            "$BUSYBOX" timeout 60 "$BUSYBOX" wget -S -O "$3" --header "Authorization: Bearer $credential" \
                "$2" "$1" 2> "$RUN/said"
            ;;
    esac
}

# call PATH BODY ANSWER: POST to the gate, every second until it can be reached and is ready (busybox wget
# keeps a Retry-After from us). Fails at once on a refusal.
call() {
    read -r now_s _ < /proc/uptime
    deadline_s=$((${now_s%.*} + GATE_PATIENCE_S))
    while [ "${now_s%.*}" -lt "$deadline_s" ]; do
        post "$gate_url/$1" "$2" "$3" && return 0
        status=$("$BUSYBOX" grep -m 1 -o 'HTTP/1.*' "$RUN/said")
        case $status in
            HTTP/*' 408 '* | HTTP/*' 429 '*) ;; # too slow or too often for now
            HTTP/*' '[1-4]*)
                say "$1: the gate refused: $status"
                return 1
                ;;
        esac
        say "$1: the gate does not answer now: ${status:-$("$BUSYBOX" tail -n 1 "$RUN/said")}"
        "$BUSYBOX" sleep 1
        read -r now_s _ < /proc/uptime
    done
    return 1
}

# hold: stays for a look, until the gate says that it is over. Runs what an operator asks for, each in the
# directory that the one before has left, and brings what it prints with the next question.
hold() {
    say held
    echo /builds > "$RUN/where"
    : > "$RUN/seen"
    while "$BUSYBOX" rm -f "$RUN/answer" && call guest/look "@$RUN/seen" "$RUN/answer"; do
        : > "$RUN/seen"
        [ -s "$RUN/answer" ] || continue
        read -r number < "$RUN/answer"
        "$BUSYBOX" tail -n +2 "$RUN/answer" > "$RUN/script"
        # shellcheck disable=SC2016 # expanded by the shell that runs it
        "$BUSYBOX" timeout -s KILL 60 /bin/sh -c 'cd "$("$2" cat "$1/where")" || cd /
            trap "pwd > $1/where" EXIT
            . "$1/script"' look "$RUN" "$BUSYBOX" > "$RUN/printed" 2>&1 < /dev/null
        code=$?
        { echo "$number $code" && "$BUSYBOX" head -c 500000 "$RUN/printed"; } > "$RUN/seen"
    done
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

machine_id='' gate_url='' credential='' clock_is_set=''
if [ "${1:-}" = template ]; then become_template; else read_parameters; fi
# Unique to this machine: sets apart machines that were restored from one saved state.
echo "$machine_id $credential" > /dev/urandom

echo "$machine_id" > /proc/sys/kernel/hostname
echo "127.0.0.1 localhost
127.0.1.1 $machine_id" > /etc/hosts
IFS=- read -r a b c d e < /proc/sys/kernel/random/uuid
echo "$a$b$c$d$e" > /etc/machine-id

say "pid 1 of $machine_id"
start_network
call guest/booted '' "$RUN/booted.tar" || exit
say booted
"$BUSYBOX" tar -x -f "$RUN/booted.tar" -C / || exit
: > "$RUN/booted.tar"
[ -n "$clock_is_set" ] || { read -r epoch < "$RUN/epoch" && "$BUSYBOX" date -s "@$epoch" > /dev/null; }
[ ! -e "$RUN/hosts" ] || cat "$RUN/hosts" >> /etc/hosts
[ ! -e "$RUN/ca-with-system" ] || cat /etc/ssl/certs/ca-certificates.crt >> "$RUN/ca.pem"
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
"$BUSYBOX" rm -f "$RUN/answer"
if call guest/ended "exit_code=$exit_code" "$RUN/answer" && [ -s "$RUN/answer" ]; then
    hold
fi
say ended
exit
