#!/bin/bash
# Makes a bare Debian 12 or Ubuntu 24.04 computer with KVM a host for FireRunner, and undoes it.
#
#   host.sh install   make it one; may be run again at any time, and after a change of host.conf
#   host.sh check     say of each item whether it is in order, and the remedy where not (exit status 1)
#   host.sh undo      take everything away but the machines' disk; with --disk that too
#
# Reads /etc/firerunner-host/host.conf (see host.conf.example). Needs root. Changes nothing but: packages of
# the distribution, /etc/firerunner-host, /usr/local/lib/firerunner-host, four systemd units named
# firerunner-host-*, the bridge and nft tables of network.sh, the volume group `firerunner` on DISK,
# /var/lib/firerunner-host. It takes no program that does not have the SHA-256 which host.conf says.
set -euo pipefail

HERE=$(dirname "$(readlink -f "$0")")
ETC=/etc/firerunner-host
LIB=/usr/local/lib/firerunner-host
DATA=/var/lib/firerunner-host
UNITS=(network dhcp containerd flintlockd)
PACKAGES=(ca-certificates containerd curl dnsmasq-base iproute2 lvm2 nftables openssl procps thin-provisioning-tools)
GROUP=firerunner
POOL=$GROUP-thinpool
SOCKET=/run/firerunner-host/containerd.sock

main() {
    case ${1:-} in
        install | check | undo | flintlockd)
            verb=$1
            shift
            "$verb" "$@"
            ;;
        *)
            sed -n '2,12s/^# \?//p' "$0"
            exit 2
            ;;
    esac
}

die() { # WHAT REMEDY
    echo "host.sh: $1. $2" >&2
    exit 1
}

step() {
    echo "== $*"
}

read_conf() {
    [ -r "$ETC/host.conf" ] || die "there is no $ETC/host.conf" "Copy host.conf.example there and fill it in"
    # shellcheck source=/dev/null
    . "$ETC/host.conf"
    : "${BRIDGE:?}" "${DISK:?}" "${DISK_PER_MACHINE:?}" "${LISTEN:?}" "${CERTIFICATES:?}" "${TOKEN_FILE:?}"
    : "${FLINTLOCKD:?}" "${FLINTLOCKD_SHA256=}" "${FIRECRACKER:?}" "${FIRECRACKER_SHA256=}"
}

install() {
    [ "$(id -u)" = 0 ] || die "this needs root" "sudo $0 install"
    read_conf
    check_computer > /dev/null || { check_computer || true; die "this computer cannot be a host" "See above"; }
    step "packages"
    add_packages
    step "programs"
    mkdir -p "$LIB" "$DATA"
    command install -m 755 "$HERE/host.sh" "$HERE/network.sh" "$LIB"
    fetch "$FLINTLOCKD" "$FLINTLOCKD_SHA256" FLINTLOCKD flintlockd
    fetch "$FIRECRACKER" "$FIRECRACKER_SHA256" FIRECRACKER firecracker
    step "certificates and token"
    check_credentials || die "the credentials are not complete" "See above"
    step "thin pool"
    make_pool
    step "containerd"
    containerd_config > "$ETC/containerd.toml"
    step "units"
    for unit in "${UNITS[@]}"; do
        command install -m 644 "$HERE/units/firerunner-host-$unit.service" /etc/systemd/system/
    done
    systemctl daemon-reload
    systemctl enable --quiet "${UNITS[@]/#/firerunner-host-}"
    systemctl reload-or-restart firerunner-host-network
    systemctl restart firerunner-host-dhcp firerunner-host-containerd firerunner-host-flintlockd
    step "check"
    check
}

add_packages() {
    local missing=() package
    for package in "${PACKAGES[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}

fetch() { # WHERE SHA256 KEY NAME: the program NAME, out of an archive if it is one
    local file="$DATA/$4.download"
    [ -n "$2" ] || die "$3_SHA256 is empty" "Get the digest of $1 from its release page, twice, and write it down"
    if [ -x "$LIB/$4" ] && [ "$(cat "$DATA/$4.sha256" 2> /dev/null)" = "$2" ]; then return 0; fi
    case $1 in
        http*) curl --fail --silent --show-error --location --output "$file" "$1" ;;
        *) cp "$1" "$file" ;;
    esac
    echo "$2  $file" | sha256sum --check --quiet || die "$1 has another SHA-256" "Compare with its release page"
    case $1 in
        *.tgz | *.tar.gz)
            tar -x -z -O -f "$file" --wildcards "*/$4-v*-$(uname -m)" > "$file.out"
            mv "$file.out" "$file"
            ;;
    esac
    command install -m 755 "$file" "$LIB/$4"
    rm "$file"
    echo "$2" > "$DATA/$4.sha256"
}

make_pool() {
    if vgs "$GROUP" > /dev/null 2>&1; then return 0; fi
    [ -b "$DISK" ] || die "$DISK is not a block device" "DISK in host.conf names an empty disk or partition"
    [ -z "$(wipefs --noheadings "$DISK")" ] ||
        die "$DISK is not empty" "wipefs --all $DISK, if nothing on it is needed"
    vgcreate -q "$GROUP" "$DISK"
    lvcreate -q --type thin-pool --extents 95%FREE --poolmetadatasize 1G --zero n --name thinpool "$GROUP"
    touch "$DATA/made-group"
}

containerd_config() {
    cat << CONFIG
version = 2
root = "$DATA/containerd"
state = "/run/firerunner-host/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]

[grpc]
  address = "$SOCKET"

[plugins."io.containerd.snapshotter.v1.devmapper"]
  root_path = "$DATA/containerd/devmapper"
  pool_name = "$POOL"
  base_image_size = "$DISK_PER_MACHINE"
  discard_blocks = true
CONFIG
}

flintlockd() { # what the unit runs; the token is in a file, because command lines are everybody's to read
    read_conf
    local directory=/run/firerunner-host/flintlockd
    (umask 077 && mkdir -p "$directory" && cat > "$directory/config.yaml") << CONFIG
containerd-socket: $SOCKET
grpc-endpoint: $LISTEN
bridge-name: $BRIDGE
firecracker-bin: $LIB/firecracker
state-dir: $DATA/flintlock
tls-cert: $CERTIFICATES/host.pem
tls-key: $CERTIFICATES/host.key
tls-client-validate: true
tls-client-ca: $CERTIFICATES/ca.pem
basic-auth-token: $(cat "$TOKEN_FILE")
CONFIG
    XDG_CONFIG_HOME=/run/firerunner-host exec "$LIB/flintlockd" run
}

item() { # NAME REMEDY COMMAND...: one line
    local name=$1 remedy=$2
    shift 2
    if "$@" > /dev/null 2>&1; then
        echo "ok    $name"
    else
        echo "FAIL  $name. $remedy"
        return 1
    fi
}

check_computer() {
    local wrong=0
    item "x86-64" "Firecracker and FireRunner's images are for it" test "$(uname -m)" = x86_64 || wrong=1
    item "Debian 12 or Ubuntu 24.04" "Others may do, but are not tried" known_system || wrong=1
    item "/dev/kvm" "Switch virtualization on in the firmware; in a VM: nested virtualization" \
        test -w /dev/kvm || wrong=1
    item "device mapper" "modprobe dm_thin_pool" has_device_mapper || wrong=1
    return "$wrong"
}

known_system() {
    # shellcheck source=/dev/null
    (. /etc/os-release && [[ "$ID $VERSION_ID" == "debian 12" || "$ID $VERSION_ID" == "ubuntu 24.04" ]])
}

has_device_mapper() {
    modprobe dm_thin_pool 2> /dev/null
    grep -q device-mapper /proc/misc
}

check_credentials() {
    local wrong=0 name
    for name in ca.pem host.pem host.key; do
        item "$CERTIFICATES/$name" "certificates.sh makes it" test -s "$CERTIFICATES/$name" || wrong=1
    done
    item "the host's certificate is valid for another week" "certificates.sh host" \
        openssl x509 -in "$CERTIFICATES/host.pem" -checkend 604800 -noout || wrong=1
    item "it is the authority's" "ca.pem and host.pem go together" \
        openssl verify -CAfile "$CERTIFICATES/ca.pem" "$CERTIFICATES/host.pem" || wrong=1
    item "$TOKEN_FILE" "(umask 077; openssl rand -hex 24 > $TOKEN_FILE)" test -s "$TOKEN_FILE" || wrong=1
    item "nobody else reads it and the key" "chmod 600 $TOKEN_FILE $CERTIFICATES/host.key" \
        test -z "$(find "$TOKEN_FILE" "$CERTIFICATES/host.key" -perm /077 2> /dev/null)" || wrong=1
    return "$wrong"
}

check() {
    read_conf
    local wrong=0 name said
    check_computer || wrong=1
    for name in flintlockd firecracker; do
        item "$name" "host.sh install" test -x "$LIB/$name" || wrong=1
    done
    check_credentials || wrong=1
    item "thin pool $POOL" "host.sh install; is $DISK there?" test -e "/dev/mapper/$POOL" || wrong=1
    item "room in the thin pool" "lvs $GROUP; remove images, or add a disk: vgextend, lvextend" has_room || wrong=1
    if said=$("$HERE/network.sh" check "$ETC/host.conf"); then
        echo "ok    network of the guests"
    else
        wrong=1
        while IFS= read -r line; do echo "FAIL  $line. systemctl restart firerunner-host-network"; done <<< "$said"
    fi
    for name in "${UNITS[@]}"; do
        item "firerunner-host-$name" "journalctl -u firerunner-host-$name" \
            systemctl is-active --quiet "firerunner-host-$name" || wrong=1
    done
    item "containerd has devmapper" "journalctl -u firerunner-host-containerd" has_devmapper || wrong=1
    item "flintlockd listens at $LISTEN" "journalctl -u firerunner-host-flintlockd" listens || wrong=1
    [ "$wrong" = 0 ] || return 1
    echo "All is well here. From FireRunner's side: firerunner doctor --host NAME"
}

has_room() {
    [ "$(lvs --noheadings -o data_percent "$GROUP/thinpool" | cut -d . -f 1)" -lt 85 ]
}

has_devmapper() {
    ctr --address "$SOCKET" plugins ls | grep -Eq 'devmapper +.* ok'
}

listens() {
    ss -H -l -t -n "sport = :${LISTEN##*:}" | grep -q .
}

undo() {
    [ "$(id -u)" = 0 ] || die "this needs root" "sudo $0 undo"
    read_conf
    if pgrep -f "$LIB/firecracker" > /dev/null; then
        die "machines still run here" "firerunner drain this host; then end what is left: pkill -f $LIB/firecracker"
    fi
    for unit in flintlockd containerd dhcp network; do
        systemctl disable --now --quiet "firerunner-host-$unit" 2> /dev/null || true
        rm -f "/etc/systemd/system/firerunner-host-$unit.service"
    done
    systemctl daemon-reload
    "$HERE/network.sh" down "$ETC/host.conf"
    if [ "${1:-}" = --disk ] && [ -e "$DATA/made-group" ]; then
        vgremove --force --yes "$GROUP"
        pvremove --yes "$DISK"
        rm -rf "$DATA"
    fi
    rm -rf "$LIB" "$ETC/containerd.toml" /run/firerunner-host
    echo "Undone. Left are $ETC, which is yours, and the packages."
    [ ! -d "$DATA" ] || echo "The thin pool on $DISK and $DATA are left too: host.sh undo --disk"
}

main "$@"
