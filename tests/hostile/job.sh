#!/bin/sh
# A hostile job, root in its machine. PART says what it is, and for PART=hostile TRIES what it tries; each try is one
# line `TRY name result`. What a result is worth is judged outside (attempts.py), where it is counted too.
# The tools are busybox's, which PID 1 leaves in the guest.
# shellcheck disable=SC2154 # the harness gives the variables in capitals
# shellcheck disable=SC2030,SC2031 # a made-up token is meant for its own subshell only
set -u

ours=/run/firerunner
tools=/tmp/hostile-tools
if [ "${1:-}" != inside ]; then
    mkdir -p "$tools"
    "$ours/busybox" --install -s "$tools"
    PATH=$tools exec "$tools/sh" "$0" inside
fi

# PID 1 leaves the one-machine credential in the runner's configuration.
credential=$(sed -n 's/^ *token = "\(.*\)"$/\1/p' "$ours/config.toml")
machine=$(hostname)
me=/m/$machine
other=/m/$OTHER_MACHINE
api=/api/v4/jobs
ask="{\"token\":\"$credential\"}"
bearer="Authorization: Bearer $credential"
token="Job-Token: $CI_JOB_TOKEN"
update="{\"token\":\"$CI_JOB_TOKEN\",\"state\":\"running\"}"
work=$(mktemp -d)
name=main

say() { echo "TRY $name $*"; }

# send HOST PORT: the text on standard input, which stays open until the other side has ended. Says the status of an
# HTTP answer, the name of a canary that is heard, or `closed`.
send() {
    pipe=$work/$name.pipe heard=$work/$name.heard
    mkfifo "$pipe"
    exec 3<> "$pipe"
    cat >&3
    timeout "${patience_s:-6}" nc -w 4 "$1" "$2" < "$pipe" > "$heard" 2> /dev/null
    exec 3>&-
    rm "$pipe"
    canary=$(grep -m 1 -a -o 'canary-[a-z-]*' "$heard")
    status=''
    IFS=' ' read -r _ status _ < "$heard"
    say "${canary:-${status:-closed}}"
}

# http HOST PORT METHOD TARGET BODY [HEADER...]
http() {
    host=$1 port=$2 line="$3 $4 HTTP/1.1" body=$5
    shift 5
    {
        printf '%s\r\nHost: %s\r\nConnection: close\r\n' "$line" "$host"
        [ $# -eq 0 ] || printf '%s\r\n' "$@"
        printf 'Content-Length: %s\r\n\r\n%s' "${#body}" "$body"
    } | send "$host" "$port"
}

gate() { patience_s=20 http 10.0.2.2 80 "$@"; }
connect() { http "$1" "$2" GET / ''; }
post() { gate POST "$1" "$2" 'Content-Type: application/json' "$bearer"; }

ping_to() { if "$@" > /dev/null 2>&1; then say echo; else say none; fi; }
look_up() { if nslookup "$@" > /dev/null 2>&1; then say resolved; else say none; fi; }
datagram() {
    echo hostile | timeout 3 nc -u -w 1 "$1" "$2" > /dev/null 2>&1
    say sent
}

# Whether the neighbour, who has this guest's own address, is there once the address is given up.
neighbour_by_own_address() {
    ip addr add 10.0.2.77/24 dev eth0
    ip addr del 10.0.2.15/24 dev eth0
    connect 10.0.2.15 7777
    ip addr del 10.0.2.77/24 dev eth0
    ip addr add 10.0.2.15/24 dev eth0
    ip route add default via 10.0.2.2
}

# Routes of the guest's own making, past the link's other end.
loopback_by_route() {
    ip route add 127.0.0.0/8 via 10.0.2.2 dev eth0 table local 2> /dev/null
    ip route del local 127.0.0.0/8 dev lo table local 2> /dev/null
    connect 127.0.0.1 "$LOOPBACK"
    ip route add local 127.0.0.0/8 dev lo table local 2> /dev/null
    ip route del 127.0.0.0/8 via 10.0.2.2 dev eth0 table local 2> /dev/null
}

# count_of FILE...: how often each status was answered, as in `200:60,429:940`.
count_of() { cat "$@" | sort | uniq -c | awk '{printf "%s%s:%s", (NR > 1 ? "," : ""), $2, $1}'; }

# flood NUMBER own|made-up: so many updates of its job, each with its own connection, eight at a time.
flood() {
    for lane in 1 2 3 4 5 6 7 8; do updates "$@" "$lane" > "$work/$name.lane-$lane" & done
    wait
    say "$(count_of "$work/$name".lane-*)"
}

updates() {
    number=$3
    while [ "$number" -le "$1" ]; do
        [ "$2" = own ] || token="Job-Token: made-up-$MARK-$number"
        name=$2-$3 gate PUT "$me$api/$CI_JOB_ID" "$update" "$token"
        number=$((number + 8))
    done | cut -d ' ' -f 3
}

flood_console() {
    say "bytes:$(yes "console $MARK" | head -c 100000000 | timeout "$FLOOD_S" tee /dev/ttyS0 | wc -c)"
}

try() {
    name=$1
    case $name in
        # what must work, or the rest says nothing
        control-gate) gate PUT "$me$api/$CI_JOB_ID" "$update" "$token" 'Content-Type: application/json' ;;
        control-gitlab) connect "$GITLAB_NAME" "$GITLAB" ;;
        control-internet) connect "$PUBLIC" 443 ;;
        control-network) connect "$CORPORATE" 5432 ;;
        # this computer
        loopback) connect 127.0.0.1 "$LOOPBACK" ;;
        loopback-by-gateway) connect 10.0.2.2 "$LOOPBACK" ;;
        loopback-by-route) loopback_by_route ;;
        second-loopback) connect 127.0.0.2 "$SECOND" ;;
        second-loopback-by-gateway) connect 10.0.2.2 "$SECOND" ;;
        gate-port-by-gateway) connect 10.0.2.2 "$GATE" ;;
        web-port-by-gateway) http 10.0.2.2 "$WEB" GET /metrics '' ;;
        gitlab-port-by-gateway) connect 10.0.2.2 "$GITLAB" ;;
        lan) connect "$LAN_ADDRESS" "$LAN" ;;
        lan-by-gateway) connect 10.0.2.2 "$LAN" ;;
        lan-gate-port) connect "$LAN_ADDRESS" "$GATE" ;;
        lan-web-port) http "$LAN_ADDRESS" "$WEB" GET /metrics '' ;;
        lan-usual-port) connect "$LAN_ADDRESS" 80 ;;
        host-of-network) connect "$HOST_CORPORATE" 5432 ;;
        datagram-loopback) datagram 10.0.2.2 "$LOOPBACK" ;;
        datagram-lan) datagram "$LAN_ADDRESS" "$LAN" ;;
        icmp-gateway) ping_to ping -c 1 -W 2 10.0.2.2 ;;
        icmp-lan) ping_to ping -c 1 -W 2 "$LAN_ADDRESS" ;;
        ipv6-all-routers) ping_to ping6 -c 1 -W 2 -I eth0 ff02::2 ;;
        # others
        neighbour-next) connect 10.0.2.16 7777 ;;
        neighbour-egress) connect 10.0.2.101 7777 ;;
        neighbour-by-own-address) neighbour_by_own_address ;;
        metadata) connect 169.254.169.254 80 ;;
        metadata-azure) connect 168.63.129.16 80 ;;
        metadata-alibaba) connect 100.100.100.200 80 ;;
        metadata-ipv6) connect fd00:ec2::254 80 ;;
        elsewhere) connect 192.0.2.1 443 ;;
        network-other-port) connect "$CORPORATE" 80 ;;
        resolver-usual) connect 10.0.2.3 53 ;;
        resolve-others) look_up gitlab.example.com 10.0.2.2 ;;
        domain-loopback) connect loop.trusted.test 80 ;;
        domain-host) connect me.trusted.test 80 ;;
        domain-metadata) connect meta.trusted.test 80 ;;
        domain-azure) connect azure.trusted.test 80 ;;
        # what the gate does not serve
        gate-root) gate GET / '' ;;
        gate-metrics) gate GET /metrics '' ;;
        gate-webhook) post /webhook '{}' ;;
        gate-ready) gate GET /ready '' ;;
        gate-openapi) gate GET /openapi.json '' ;;
        gate-gitlab-api) gate GET /api/v4/version '' "$token" ;;
        gate-verify) post "$me/api/v4/runners/verify" "$ask" ;;
        gate-reset-token) post "$me/api/v4/runners/reset_authentication_token" "$ask" ;;
        gate-forget-runner) gate DELETE "$me/api/v4/runners" "$ask" ;;
        gate-absolute) gate GET "http://127.0.0.1:$WEB/metrics" '' ;;
        gate-connect) gate CONNECT "127.0.0.1:$WEB" '' ;;
        gate-websocket) gate GET "$me/guest/booted" '' 'Upgrade: websocket' 'Sec-WebSocket-Version: 13' \
            'Sec-WebSocket-Key: aG9zdGlsZWhvc3RpbGVob3N0' ;;
        path-dots) gate GET "$me/../../metrics" '' ;;
        path-dots-hidden) gate GET "$me/%2e%2e/%2e%2e/metrics" '' ;;
        path-dots-to-other) post "$me/../../$other$api/request" "$ask" ;;
        path-dots-hidden-to-other) post "$me/%2e%2e/$OTHER_MACHINE$api/request" "$ask" ;;
        path-slashes) gate GET //metrics '' ;;
        path-slashes-ask) post "$me//api/v4/jobs/request" "$ask" ;;
        path-slash-hidden) post "/m/$OTHER_MACHINE%2fguest%2fended" exit_code=0 ;;
        path-line-end) post "$me$api/request%0a" "$ask" ;;
        path-job-dots) gate PUT "$me$api/$CI_JOB_ID/../$OTHER_JOB" "$update" "$token" ;;
        # somebody else's machine and job
        other-ask) post "$other$api/request" "$ask" ;;
        other-booted) post "$other/guest/booted" '' ;;
        other-ended) post "$other/guest/ended" exit_code=0 ;;
        other-trace) gate PATCH "$other$api/$OTHER_JOB/trace" "$MARK" "$token" 'Content-Range: 0-9' ;;
        other-update) gate PUT "$other$api/$OTHER_JOB" "$update" "$token" ;;
        other-artifacts) gate GET "$other$api/$OTHER_JOB/artifacts" '' "$token" ;;
        other-upload) gate POST "$other$api/$OTHER_JOB/artifacts" "$MARK" "$token" ;;
        cross-trace) gate PATCH "$me$api/$OTHER_JOB/trace" "$MARK" "$token" 'Content-Range: 0-9' ;;
        cross-update) gate PUT "$me$api/$OTHER_JOB" "${update%running*}failed\"}" "$token" ;;
        cross-artifacts) gate GET "$me$api/$OTHER_JOB/artifacts" '' "$token" ;;
        cross-upload) gate POST "$me$api/$OTHER_JOB/artifacts" "$MARK" "$token" ;;
        gitlab-cross-trace) http "$GITLAB_NAME" "$GITLAB" PATCH "$api/$OTHER_JOB/trace" "$MARK" "$token" \
            'Content-Range: 0-9' ;;
        gitlab-ask) http "$GITLAB_NAME" "$GITLAB" POST "$api/request" "$ask" 'Content-Type: application/json' ;;
        # lies about itself
        lie-no-token) gate PUT "$me$api/$CI_JOB_ID" '{"state":"success"}' ;;
        lie-wrong-token) gate PUT "$me$api/$CI_JOB_ID" "$update" 'Job-Token: made-up' ;;
        lie-credential-as-token) gate PUT "$me$api/$CI_JOB_ID" "$update" "Job-Token: $credential" ;;
        lie-two-tokens) gate PUT "$me$api/$CI_JOB_ID" "$update" "$token" 'Job-Token: made-up' ;;
        lie-token-in-query) gate PUT "$me$api/$CI_JOB_ID?token=$CI_JOB_TOKEN" "$update" "$token" ;;
        lie-ask-with-token) post "$me$api/request" "{\"token\":\"$CI_JOB_TOKEN\"}" ;;
        lie-ask-not-json) post "$me$api/request" '[[[[' ;;
        lie-two-lengths) gate PUT "$me$api/$CI_JOB_ID" "$update" "$token" 'Content-Length: 4' ;;
        lie-chunked-too) patience_s=6 http 10.0.2.2 80 PUT "$me$api/$CI_JOB_ID" "$update" "$token" 'Transfer-Encoding: chunked' ;;
        lie-too-large) printf 'PUT %s HTTP/1.1\r\nHost: g\r\n%s\r\nContent-Length: 9999999\r\n\r\n' \
            "$me$api/$CI_JOB_ID" "$token" | patience_s=20 send 10.0.2.2 80 ;;
        # too much of it
        flood-own) flood "$FLOOD" own ;;
        flood-made-up) flood "$FLOOD" made-up ;;
        flood-console) flood_console ;;
        *) say 'not known' ;;
    esac
}

# Does not end: deaf to signals, with children that left its process group, and a runner that is stopped.
stay() {
    trap '' HUP INT QUIT TERM
    for _ in 1 2 3; do setsid sh -c 'trap "" HUP INT QUIT TERM; while :; do sleep 1; done' & done
    sleep 6
    # shellcheck disable=SC2046 # one word for each process
    [ "${1:-}" != stop ] || kill -STOP $(pidof gitlab-runner bash) 2> /dev/null
    while :; do sleep 1; done
}

case $PART in
    hostile)
        ip addr add fd00::15/64 dev eth0 2> /dev/null
        running=0
        for each in $TRIES; do
            try "$each" &
            running=$((running + 1))
            [ $((running % 10)) -ne 0 ] || wait
        done
        wait
        for each in $ALONE; do try "$each"; done
        yes "trace $MARK $(head -c 8000 /dev/zero | tr '\000' x)" | head -c "$TRACE_BYTES"
        echo
        name=flood-trace
        say "bytes:$TRACE_BYTES"
        stay "$END_BY"
        ;;
    greedy) name=second-ask && sleep 2 && post "$me$api/request" "$ask" && stay ;;
    again) name=second-boot && sleep 2 && post "$me/guest/booted" '' && stay ;;
    quitter)
        sleep 2
        name=early-end && post "$me/guest/ended" exit_code=0
        name=after-end && gate PATCH "$me$api/$CI_JOB_ID/trace" x "$token" 'Content-Range: 0-0'
        stay
        ;;
    leaky)
        echo "CREDENTIAL $credential"
        stay
        ;;
    bomb)
        # Nothing that a guest has outlives this, its runner least of all; so nothing is said of how it went.
        head -c 4000000000 /dev/zero > /fill
        sh -c 'x=x; while :; do x=$x$x; done' &
        # shellcheck disable=SC2264 # that is what it is
        bomb() { bomb | bomb & }
        bomb
        stay
        ;;
esac
