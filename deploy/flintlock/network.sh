#!/bin/bash
# The network of a host's guests: a bridge, its rules, its DHCP server.
#
#   network.sh up|down|check CONF     make it, take it away, say what is not as it should be
#   network.sh dhcp CONF              serve addresses, in the foreground
#   network.sh lease CONF EVENT MAC ADDRESS   what dnsmasq calls: only leased addresses may speak
#
# Guests reach what EGRESS says, and DNS: not the host, not each other, no metadata address, no IPv6.
# CONF is described in host.conf.example.
set -euo pipefail

STATE=/run/firerunner-host
TAPS='fltap*' # Flintlock's names for them
TABLE=firerunner

main() {
    [ $# -ge 2 ] || { sed -n '2,10s/^# \?//p' "$0"; exit 2; }
    verb=$1 conf=$2
    shift 2
    # shellcheck source=/dev/null
    . "$conf"
    : "${BRIDGE:?}" "${ADDRESS:?}" "${DHCP_RANGE:?}" "${LEASE:=1h}" "${UPLINK:?}" "${DNS=}" "${EGRESS=}"
    case $verb in
        up | down | check | dhcp) "$verb" ;;
        lease) lease "$@" ;;
        *) die "there is no $verb" "up, down, check, dhcp" ;;
    esac
}

die() { # WHAT REMEDY
    echo "network.sh: $1. $2" >&2
    exit 1
}

up() {
    check_conf
    ip link show "$BRIDGE" > /dev/null 2>&1 || ip link add "$BRIDGE" type bridge stp_state 0 mcast_snooping 0
    ip addr replace "$ADDRESS" dev "$BRIDGE"
    set_bridge disable_ipv6 1 ipv6
    set_bridge rp_filter 1
    set_bridge arp_ignore 1
    set_bridge accept_redirects 0
    set_bridge send_redirects 0
    set_bridge forwarding 1
    sysctl -q -w "net.ipv4.conf.${UPLINK//./\/}.forwarding=1"
    rules | nft -f - # at once: there is no moment without rules
    ip link set "$BRIDGE" up
}

down() {
    nft delete table inet "$TABLE" 2> /dev/null || true
    nft delete table bridge "$TABLE" 2> /dev/null || true
    ip link delete "$BRIDGE" 2> /dev/null || true
    rm -rf "${STATE:?}/$BRIDGE"
}

set_bridge() { # KEY VALUE [FAMILY]
    [ ! -e "/proc/sys/net/${3:-ipv4}/conf/$BRIDGE/$1" ] || sysctl -q -w "net.${3:-ipv4}.conf.${BRIDGE//./\/}.$1=$2"
}

check_conf() {
    local item four='([0-9]{1,3}\.){3}[0-9]{1,3}'
    [[ $ADDRESS =~ ^$four/[0-9]{1,2}$ ]] ||
        die "ADDRESS is $ADDRESS" "Write it with the length of the network's prefix: 10.61.0.1/16"
    [[ $DHCP_RANGE =~ ^$four,$four$ ]] || die "DHCP_RANGE is $DHCP_RANGE" "Write its first and last address: A,B"
    ip link show "$UPLINK" > /dev/null 2>&1 || die "there is no device $UPLINK" "UPLINK is one of: ip -brief link"
    for item in $DNS; do
        [[ $item =~ ^$four$ ]] || die "DNS has $item" "Write IPv4 addresses, with spaces between"
    done
    for item in $EGRESS; do
        [[ $item =~ ^(internet|$four(/[0-9]{1,2})?)(:[0-9]{1,5})?$ ]] ||
            die "EGRESS has $item" "Write ADDRESS:PORT, NETWORK/BITS[:PORT] or internet[:PORT], IPv4"
        [[ $item =~ [/:]|^internet ]] ||
            die "EGRESS has $item without a port" "Write $item:443, or $item/32 for all ports"
    done
}

elements() { # PATTERN: the items of EGRESS that match, as elements of a set
    local item found=''
    for item in $EGRESS; do
        # shellcheck disable=SC2053 # a pattern is meant
        [[ $item == $1 ]] && [[ $item != internet* ]] && found+="${found:+, }${item/:/ . }"
    done
    [ -z "$found" ] || echo "elements = { $found }"
}

internet() { # the rules for `internet`
    local item port
    for item in $EGRESS; do
        case $item in
            internet) port='' ;;
            internet:*) port="th dport ${item#*:}" ;;
            *) continue ;;
        esac
        echo "        meta l4proto tcp ip daddr != @private $port accept"
    done
}

rules() {
    local any
    any=$(for item in $EGRESS; do [[ $item == *:* || $item == internet ]] || echo "$item"; done | paste -s -d ,)
    cat << RULES
table bridge $TABLE
delete table bridge $TABLE
table bridge $TABLE {
    set leases { type ether_addr . ipv4_addr; $(known_leases) }
    set askers { type ifname; size 4096; flags dynamic,timeout; timeout 1m; }
    chain forward {
        type filter hook forward priority filter; policy accept;
        iifname "$TAPS" drop comment "no guest reaches another"
    }
    chain input {
        type filter hook input priority filter; policy accept;
        iifname != "$TAPS" accept
        udp dport 67 update @askers { iifname limit rate over 60/minute burst 30 packets } drop
        ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
        ether type ip ether saddr . ip saddr @leases accept
        ether type arp ether saddr . arp saddr ip @leases accept
        drop
    }
}
table inet $TABLE
delete table inet $TABLE
table inet $TABLE {
    set never {
        type ipv4_addr; flags interval
        elements = { 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 192.0.0.0/24, 224.0.0.0/3 }
    }
    set private {
        type ipv4_addr; flags interval
        elements = { 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16, 198.18.0.0/15 }
    }
    set servers { type ipv4_addr; ${DNS:+elements = { ${DNS// /, } \}} }
    set doors { type ipv4_addr . inet_service; flags interval; $(elements '*:*') }
    set networks { type ipv4_addr; flags interval; ${any:+elements = { $any \}} }
    chain input {
        type filter hook input priority filter - 10; policy accept;
        iifname != "$BRIDGE" accept
        meta nfproto ipv6 drop
        ct state established,related accept
        udp dport 67 accept
        ip daddr . tcp dport @doors accept comment "a gate on this host"
        drop
    }
    chain forward {
        type filter hook forward priority filter - 10; policy accept;
        oifname "$BRIDGE" ct state established,related accept
        oifname "$BRIDGE" drop
        iifname != "$BRIDGE" accept
        meta nfproto ipv6 drop
        oifname != "$UPLINK" drop
        ip daddr @never drop
        ct state established,related accept
        ip daddr @servers meta l4proto { tcp, udp } th dport 53 accept
        ip daddr . tcp dport @doors accept
        meta l4proto tcp ip daddr @networks accept
$(internet)
        meta l4proto tcp reject with tcp reset
        reject with icmp type admin-prohibited
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr $(network) oifname "$UPLINK" masquerade
    }
}
RULES
}

network() {
    ip -4 route show dev "$BRIDGE" scope link | { read -r it _ || it=$ADDRESS; echo "$it"; }
}

known_leases() { # rules may be made anew while guests live
    local leases
    leases=$(awk '{ printf "%s%s . %s", (NR > 1 ? ", " : ""), $2, $3 }' "$STATE/$BRIDGE/leases" 2> /dev/null || true)
    [ -z "$leases" ] || echo "elements = { $leases }"
}

dhcp() {
    mkdir -p "$STATE/$BRIDGE"
    printf '#!/bin/sh\nexec "%s" lease "%s" "$@"\n' "$(readlink -f "$0")" "$(readlink -f "$conf")" \
        > "$STATE/$BRIDGE/lease"
    chmod 755 "$STATE/$BRIDGE/lease"
    exec dnsmasq --conf-file=/dev/null --keep-in-foreground --log-facility=- --pid-file= \
        --port=0 --interface="$BRIDGE" --bind-dynamic --dhcp-authoritative --dhcp-ignore-names \
        --dhcp-range="$DHCP_RANGE,$LEASE" --dhcp-option="option:router,${ADDRESS%/*}" \
        --dhcp-option="option:dns-server${DNS:+,${DNS// /,}}" --dhcp-lease-max=65536 \
        --dhcp-leasefile="$STATE/$BRIDGE/leases" --dhcp-script="$STATE/$BRIDGE/lease"
}

lease() { # EVENT MAC ADDRESS [NAME]
    case $1 in
        add | old) nft add element bridge "$TABLE" leases "{ $2 . $3 }" ;;
        del) nft delete element bridge "$TABLE" leases "{ $2 . $3 }" 2> /dev/null || true ;;
    esac
}

check() {
    local wrong=0
    ip link show "$BRIDGE" > /dev/null 2>&1 || { echo "there is no bridge $BRIDGE"; wrong=1; }
    nft list table inet "$TABLE" > /dev/null 2>&1 || { echo "the rules of guests are not in force"; wrong=1; }
    nft list table bridge "$TABLE" > /dev/null 2>&1 || { echo "the rules between guests are not in force"; wrong=1; }
    [ "$(cat "/proc/sys/net/ipv4/conf/$UPLINK/forwarding" 2> /dev/null)" = 1 ] ||
        { echo "$UPLINK forwards nothing"; wrong=1; }
    pgrep -f -- "--interface=$BRIDGE " > /dev/null || { echo "no DHCP server on $BRIDGE"; wrong=1; }
    return "$wrong"
}

main "$@"
