#!/bin/busybox sh
# FireRunner guest, first stage: the initramfs's /init.
#
# Brings up devices, network and the root file system (read-only base, writable overlay), fetches the
# boot parameters, and hands over to pid1.sh in the new root. Everything here is busybox, because
# starting a dynamic program costs tens of milliseconds under emulation.
#
# Kernel arguments, set by the driver:
#   fr.address=A/N fr.gateway=A   the guest's end of the link to the gate
#   fr.resolver=A                 who answers DNS queries
#   fr.root=DEV                   the read-only root file system (ext4)
#   fr.overlay=DEV                an ext4 file system to write to; without it, memory is used
#   fr.writable=1                 the root file system is this machine's own and is written to, without overlay
#   fr.metadata=A                 a metadata service that has the boot parameters; the guest's address comes by
#                                 DHCP, in the second stage, and the others are not given
#   fr.template=1                 stop before anything of the machine's own is needed, so that the state of the
#                                 machine can be saved; a line on the console, after a restore, lets it go on
#   fr.selftest=1                 say that this kernel runs, and reboot: no device is touched
# shellcheck shell=dash

export PATH=/bin

say() {
    read -r uptime _ < /proc/uptime
    echo "firerunner: $uptime $*"
}

die() {
    say "cannot boot: $*"
    reboot -f
}

load() {
    for module in "$@"; do
        [ -e "/modules/$module.ko" ] || continue # built into this kernel
        insmod "/modules/$module.ko" || die "module $module does not load"
    done
}

await_device() {
    tries=0
    until [ -b "/dev/$1" ]; do
        tries=$((tries + 1))
        [ "$tries" -le 250 ] || die "no /dev/$1 after 5 s"
        sleep 0.02
    done
}

mount_base() {
    await_device "$fr_root"
    if [ -n "$fr_writable" ]; then
        mount -t ext4 -o noatime "/dev/$fr_root" /new || die "/dev/$fr_root is not an ext4 root"
    else
        mount -t ext4 -o ro,noatime "/dev/$fr_root" /base || die "/dev/$fr_root is not an ext4 root"
    fi
}

mount_overlay() {
    [ -z "$fr_writable" ] || return 0
    if [ -n "$fr_overlay" ]; then
        await_device "$fr_overlay"
        # Nothing stood on it before, so its inode tables need no zeroes.
        mount -t ext4 -o noatime,noinit_itable "/dev/$fr_overlay" /disk || die "/dev/$fr_overlay is not an ext4 disk"
    else
        mount -t tmpfs -o size=75% disk /disk
    fi
    mkdir -p /disk/upper /disk/work
    mount -t overlay -o lowerdir=/base,upperdir=/disk/upper,workdir=/disk/work overlay /new ||
        die "the overlay does not mount"
}

# A template goes on in the second stage like any machine, and waits there. What is to renew it is started here,
# where the disk's own directory can be reached: it reads the console, and is read from by descriptor 4.
start_renewal() {
    [ ! -e /base/etc/firerunner/cloud-init ] || die "an image with cloud-init is not saved"
    stty -echo # the console must not repeat the credential
    mkfifo /renewed
    exec 3<&0
    /renew <&3 > /renewed 5< /disk 6> /dev/urandom &
    exec 3<&- 4< /renewed
    read -r _ <&4 # it is ready
}

start_network() {
    ip link set lo up
    [ -n "$fr_address" ] || return 0
    # There is no IPv6 on this link; asking for neighbours and routers takes hundredths of a second.
    [ ! -e /proc/sys/net/ipv6/conf/eth0 ] || echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6
    ip addr add "$fr_address" dev eth0 || die "no network device eth0"
    ip link set eth0 up
    [ -z "$fr_gateway" ] || ip route add default via "$fr_gateway"
}

# Docker's layers cannot lie on an overlay, so they get a directory of the disk itself.
bind_docker() {
    [ -z "$fr_writable" ] && [ -d /new/var/lib/docker ] || return 0
    mkdir -p /disk/docker
    mount --bind /disk/docker /new/var/lib/docker || die "/var/lib/docker cannot be bound"
}

# An image with cloud-init gets the boot parameters as user-data, and starts pid1.sh as its last step.
seed_cloud_init() {
    seed=/new/var/lib/cloud/seed/nocloud
    mkdir -p "$seed"
    {
        echo '#cloud-config'
        echo 'write_files:'
        echo '  - path: /run/firerunner/boot'
        echo '    permissions: "0600"'
        echo '    content: |'
        sed 's/^/      /' /new/run/firerunner/boot
        echo 'runcmd:'
        echo '  - [systemd-run, --no-block, --unit=firerunner, --property=KillMode=none,'
        echo '     /run/firerunner/busybox, sh, /run/firerunner/pid1.sh]'
    } > "$seed/user-data"
    chmod 600 "$seed/user-data"
    read -r instance < /new/run/firerunner/boot
    echo "instance-id: ${instance#*=}" > "$seed/meta-data"
    rm /new/run/firerunner/boot
}

# What a job expects of a Linux system, and what pid1.sh needs: under /run/firerunner.
furnish() {
    mkdir -p /run /dev/pts /dev/shm
    mount -t tmpfs -o nosuid,nodev,mode=755,size=20% run /run
    mkdir -m 700 /run/firerunner
    mkdir -m 1777 /run/lock
    cp /bin/busybox /pid1.sh /dhcp.sh /run/firerunner/
    mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts /dev/pts
    mount -t tmpfs -o nosuid,nodev,mode=1777 shm /dev/shm
    ln -s /proc/self/fd /dev/fd
    ln -s /proc/self/fd/0 /dev/stdin
    ln -s /proc/self/fd/1 /dev/stdout
    ln -s /proc/self/fd/2 /dev/stderr
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
}

fetch_parameters() {
    [ -z "$fr_metadata" ] || open_metadata
    (umask 077 && boot_parameters > /run/firerunner/boot) || die "no boot parameters"
    [ -n "$fr_metadata" ] || return 0
    metadata firerunner-ca > /run/firerunner/gate-ca.pem || rm /run/firerunner/gate-ca.pem
    close_metadata
    echo "$guest_link" > /run/firerunner/link
}

mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sys /sys
mount -t devtmpfs -o nosuid,mode=755 dev /dev
say init

fr_address='' fr_gateway='' fr_resolver='' fr_root='' fr_overlay='' fr_writable='' fr_metadata=''
fr_selftest='' fr_template='' guest_link=''
read -r cmdline < /proc/cmdline
for argument in $cmdline; do
    case $argument in
        fr.address=*) fr_address=${argument#*=} ;;
        fr.gateway=*) fr_gateway=${argument#*=} ;;
        fr.resolver=*) fr_resolver=${argument#*=} ;;
        fr.root=*) fr_root=${argument#*=} ;;
        fr.overlay=*) fr_overlay=${argument#*=} ;;
        fr.writable=*) fr_writable=${argument#*=} ;;
        fr.metadata=*) fr_metadata=${argument#*=} ;;
        fr.template=*) fr_template=${argument#*=} ;;
        fr.selftest=*) fr_selftest=${argument#*=} ;;
    esac
done

if [ "$fr_selftest" = 1 ]; then
    echo FIRERUNNER-SELFTEST-OK
    reboot -f
fi

# shellcheck source=/dev/null
. /boot-source.sh
load virtio_ring virtio virtio_mmio virtio_blk failover net_failover virtio_net overlay
! grep -qx 0x0004 /sys/bus/virtio/devices/*/device || load virtio-rng
say modules
start_network
say network
mount_base
furnish
say furnished
if [ -z "$fr_template" ]; then
    fetch_parameters
    say named
fi
mount_overlay
bind_docker
[ -z "$fr_resolver" ] || echo "nameserver $fr_resolver" > /new/etc/resolv.conf
say root
[ -z "$fr_template" ] || start_renewal
for filesystem in run dev sys proc; do
    mount --move "/$filesystem" "/new/$filesystem"
done
if [ -e /new/etc/firerunner/cloud-init ]; then
    seed_cloud_init
    exec switch_root /new /sbin/init
fi
exec switch_root /new /run/firerunner/busybox sh /run/firerunner/pid1.sh ${fr_template:+template}
