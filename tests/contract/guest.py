"""A guest made for tests: it does what a script says that it fetches from the gate.

It is an image's own kernel, modules and busybox with another /init laid over: the kernel unpacks
archives in the initramfs one after the other, and the last one wins.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

from firerunner.images.apt import Apt
from firerunner.images.cpio import Entry, archive
from firerunner.images.initramfs import MODULES, initramfs
from firerunner.images.kernel import extract_vmlinux, module_closure
from firerunner.machines.spec import ImageFiles

READY_IMAGE = "FIRERUNNER_TEST_IMAGE"
"""Directory of an image (`kernel`, `initramfs`), to save fetching Debian's kernel in each session."""

INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
if grep -q fr.selftest=1 /proc/cmdline; then echo FIRERUNNER-SELFTEST-OK; reboot -f; fi
for m in virtio_ring virtio virtio_mmio virtio_blk failover net_failover virtio_net qemu_fw_cfg; do
    [ ! -e /modules/$m.ko ] || insmod /modules/$m.ko
done
for word in $(cat /proc/cmdline); do case $word in fr.*) export "${word#fr.}" ;; esac; done
ip link set lo up
if [ "$metadata" ]; then
    eth0=$(grep -l aa:ff:00:00:00:01 /sys/class/net/*/address | cut -d / -f 5)
    eth1=$(ls /sys/class/net | grep -v -x -e lo -e "$eth0")
    ip addr add 169.254.0.1/16 dev $eth0; ip link set $eth0 up; ip link set $eth1 up
    wget -q -O /boot http://$metadata/latest/firerunner
    . /boot
    mkdir -p /etc /new && mount -t ext4 /dev/vda /new && echo mine > /new/written && umount /new
    echo '#!/bin/sh
[ "$1" != bound ] || ip addr add $ip/$mask dev $interface' > /lease; chmod 755 /lease
    udhcpc -i $eth1 -s /lease -n -q
else
    ip addr add $address dev eth0; ip link set eth0 up; ip route add default via $gateway
fi
if [ "$template" ]; then
    stty -echo
    echo "firerunner: 0 template"
    read -r machine_id gate_url credential clock seed
    echo "firerunner: 0 restored"
elif [ -z "$metadata" ]; then
    . /sys/firmware/qemu_fw_cfg/by_name/opt/org.firerunner/boot/raw
fi
export machine_id gate_url credential
echo "firerunner: 0 named"
echo "guest of $machine_id is up"
wget -q -O /script --header "Authorization: Bearer $credential" --post-data '' $gate_url/guest/booted
echo "firerunner: 0 booted"
sh /script > /report 2>&1
wget -q -O /dev/null --header "Authorization: Bearer $credential" --post-file /report $gate_url/guest/ended
reboot -f
"""


def make_guest(directory: Path) -> ImageFiles:
    """Make the test guest below `directory`: from a ready image, or from Debian's packages."""
    ready = os.environ.get(READY_IMAGE)
    kernel, base = _taken(Path(ready)) if ready else asyncio.run(_fetched(directory))
    files = ImageFiles("test-guest", kernel, directory / "initramfs", directory / "root")
    files.initramfs.write_bytes(base + archive([Entry.file("init", INIT.encode(), 0o755)]))
    with files.root.open("wb") as root:
        root.truncate(1 << 20)
    tree = directory / "tree"
    tree.mkdir()
    (tree / "of-a-test").touch()
    command = ["/sbin/mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-d", str(tree), str(files.root)]
    subprocess.run(command, check=True)
    return files


def _taken(image: Path) -> tuple[Path, bytes]:
    return image / "kernel", (image / "initramfs").read_bytes()


async def _fetched(directory: Path) -> tuple[Path, bytes]:
    apt = await Apt.open(directory / "apt", "bookworm")
    package = (await apt.depends("linux-image-cloud-amd64"))[0]
    tree = await apt.download(package)
    version = package.removeprefix("linux-image-")
    await extract_vmlinux(tree / f"boot/vmlinuz-{version}", directory / "kernel")
    busybox = (await apt.download("busybox-static")) / "bin/busybox"
    modules = module_closure(tree / "lib/modules" / version, MODULES)
    return directory / "kernel", initramfs(busybox.read_bytes(), modules)
