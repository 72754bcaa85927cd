"""The driver as deploy/systemd runs it: a user of its own that may become others, and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import pytest

from firerunner.machines.qemu.identity import FIRST_UID, may_become_others
from firerunner.machines.spec import ImageFiles

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "firerunner.service"
SYSTEM_PYTHON = Path("/usr/bin/python3")
"""The tests' own may lie where only root gets to."""
SERVICE_USER = 61234

CAGE = """
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 dev /dev/net
mknod -m 666 /dev/net/tun c 10 200
mount -t proc -o hidepid=invisible proc /proc
exec "$@"
"""

SCENE = """
import asyncio, json, pathlib, sys
from firerunner.machines.spec import ImageFiles
from tests.contract import outside
from tests.contract.kits import QemuKit
state, digest, kernel, initramfs, root = sys.argv[1:]
kit = QemuKit(pathlib.Path(state), ImageFiles(digest, *map(pathlib.Path, (kernel, initramfs, root))))
machines = ("fr-serviceuser1", "fr-serviceuser2")

async def main():
    driver = kit.driver()
    problems = [problem.what for problem in await driver.check()]
    for each in machines:
        await driver.create(kit.spec(each))
    seen = [outside.fields(kit.vmm(each)) for each in machines]
    alive = [each.alive for each in await driver.list()]
    for each in machines:
        await driver.destroy(each)
    left = [*kit.leftovers(), *(each.machine_id for each in await driver.list())]
    await driver.aclose()
    print(json.dumps({"problems": problems, "seen": seen, "alive": alive, "left": left}))

asyncio.run(main())
"""


def capabilities() -> str:
    """Those that the unit leaves, as setpriv(1) wants them."""
    (line,) = re.findall(r"^CapabilityBoundingSet=(.*)$", UNIT.read_text(), re.MULTILINE)
    return ",".join(["-all", *(f"+{each.removeprefix('CAP_').lower()}" for each in line.split())])


def python_for_others(folder: Path) -> Path:
    """An environment of the system's Python with the tests' packages in it."""
    found = subprocess.run(
        [SYSTEM_PYTHON, "-c", "import sys; print('%s.%s' % sys.version_info[:2])"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    if found != sysconfig.get_python_version():
        pytest.skip(
            f"{SYSTEM_PYTHON} is {found}, and the packages here are for {sysconfig.get_python_version()}"
        )
    subprocess.run([SYSTEM_PYTHON, "-m", "venv", "--without-pip", folder], check=True)
    places = [str(ROOT / "src"), str(ROOT), sysconfig.get_paths()["purelib"]]
    (folder / f"lib/python{found}/site-packages/ours.pth").write_text("\n".join(places))
    return folder / "bin" / "python"


@pytest.mark.vm
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a service with capabilities")
def test_each_machine_has_a_user_of_its_own_without_root(test_guest: ImageFiles) -> None:
    with tempfile.TemporaryDirectory(prefix="firerunner-service-user-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        python = python_for_others(folder / "venv")
        files = [folder / each for each in ("kernel", "initramfs", "root")]
        for source, copy in zip(
            (test_guest.kernel, test_guest.initramfs, test_guest.root), files, strict=True
        ):
            copy.write_bytes(source.read_bytes())
            copy.chmod(0o644)
        (folder / "state").mkdir(mode=0o711)
        os.chown(folder / "state", SERVICE_USER, SERVICE_USER)
        (folder / "scene.py").write_text(SCENE)
        caps = capabilities()
        service = (
            *(
                "setpriv",
                f"--reuid={SERVICE_USER}",
                f"--regid={SERVICE_USER}",
                "--clear-groups",
                "--no-new-privs",
            ),
            *(f"--bounding-set={caps}", f"--inh-caps={caps}", f"--ambient-caps={caps}"),
        )
        scene = (
            str(python),
            str(folder / "scene.py"),
            str(folder / "state"),
            test_guest.digest,
            *map(str, files),
        )

        done = subprocess.run(
            ["unshare", "--mount", "bash", "-c", CAGE, "-", *service, *scene],
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["problems"] == []
    assert told["alive"] == [True, True]
    assert told["left"] == []
    users = {int(user) for each in told["seen"] for user in each["Uid"].split()}
    assert len(users) == 2
    assert min(users) >= FIRST_UID
    for each in told["seen"]:
        assert int(each["CapEff"], 16) == int(each["CapPrm"], 16) == int(each["CapAmb"], 16) == 0
        assert (each["NoNewPrivs"], each["Groups"].strip()) == ("1", "")


@pytest.mark.parametrize(
    ("effective", "may"), [("c0", True), ("1ffffffffff", True), ("80", False), ("40", False), ("0", False)]
)
def test_who_may_become_others(effective: str, may: bool) -> None:
    assert may_become_others(f"Name:\tx\nCapEff:\t{effective:0>16}\n") is may
