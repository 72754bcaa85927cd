#!/run/firerunner/busybox sh
# FireRunner guest: puts into force what udhcpc has leased (it calls this with an event and variables).
# shellcheck shell=dash
# shellcheck disable=SC2154 # udhcpc sets interface, ip, mask, router, dns, search, domain, mtu

ip() {
    /run/firerunner/busybox ip "$@"
}

case $1 in
    deconfig)
        ip -4 addr flush dev "$interface"
        ip link set "$interface" up
        ;;
    bound | renew)
        [ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
        case $(ip -4 addr show dev "$interface") in
            *" $ip/$mask "*) ;;
            *)
                ip -4 addr flush dev "$interface"
                ip addr add "$ip/$mask" dev "$interface"
                ;;
        esac
        [ -z "$router" ] || ip route replace default via "${router%% *}" dev "$interface"
        /run/firerunner/busybox rm -f /etc/resolv.conf # an image may have a link there
        {
            [ -z "${search:-$domain}" ] || echo "search ${search:-$domain}"
            for server in $dns; do
                echo "nameserver $server"
            done
        } > /etc/resolv.conf
        ;;
esac
