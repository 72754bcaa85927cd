"""`deploy/flintlock`: certificates that our client takes, a check with remedies, programs by digest."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from firerunner.fakes.flintlock import FakeFlintlock, Identity
from firerunner.machines.flintlock.channel import Endpoint, Tls
from firerunner.machines.flintlock.client import FlintlockClient
from tests.deploy.world import USER

DEPLOY = Path(__file__).parents[2] / "deploy" / "flintlock"


def run(script: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(DEPLOY / script), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.mark.anyio
async def test_its_certificates_open_a_host_to_us_and_to_nobody_else(tmp_path: Path) -> None:
    run("certificates.sh", "ca", str(tmp_path))
    run("certificates.sh", "host", str(tmp_path), "kvm-1.example.com", "127.0.0.1")
    run("certificates.sh", "client", str(tmp_path), "firerunner")
    ca, host, ours = (tmp_path / name for name in ("ca.pem", "kvm-1.example.com.pem", "firerunner.pem"))
    identity = Identity(host.read_bytes(), host.with_suffix(".key").read_bytes(), ca.read_bytes())

    async with FakeFlintlock(identity=identity) as fake:
        client = FlintlockClient(Endpoint(fake.address, Tls(ca, ours, ours.with_suffix(".key"))))
        assert await client.list("ours") == []
        await client.aclose()


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    run("certificates.sh", "ca", str(tmp_path))
    key = (tmp_path / "ca.key").read_bytes()

    again = run("certificates.sh", "ca", str(tmp_path), check=False)

    assert again.returncode == 1
    assert "ca.key is there" in again.stderr
    assert (tmp_path / "ca.key").read_bytes() == key
    assert (tmp_path / "ca.key").stat().st_mode & 0o077 == 0


HOST_CONF = """
BRIDGE=frbr0 ADDRESS=10.61.0.1/16 DHCP_RANGE=10.61.1.0,10.61.1.9 UPLINK=eth0 DNS= EGRESS=
DISK=/dev/null DISK_PER_MACHINE=10GB LISTEN=127.0.0.1:9 CERTIFICATES=/etc/firerunner-host/tls
TOKEN_FILE=/etc/firerunner-host/token FLINTLOCKD=/bin/true FLINTLOCKD_SHA256= FIRECRACKER=/bin/true
"""


def in_a_bare_etc(tmp_path: Path, *verb: str) -> subprocess.CompletedProcess[str]:
    """Run host.sh where `/etc` is a copy that nobody else sees, with only a host.conf in it."""
    (tmp_path / "host.conf").write_text(HOST_CONF)
    script = (
        "mount -t tmpfs etc /mnt && cp -a /etc/os-release /etc/passwd /etc/group /mnt/ "
        "&& mkdir /mnt/firerunner-host && cp $0/host.conf /mnt/firerunner-host/ && mount --move /mnt /etc "
        f"&& exec {DEPLOY / 'host.sh'} {' '.join(verb)}"
    )
    return subprocess.run(
        ["unshare", *USER, "--net", "--mount", "sh", "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
    )


def test_check_names_each_item_that_is_missing_and_its_remedy(tmp_path: Path) -> None:
    said = in_a_bare_etc(tmp_path, "check")

    assert said.returncode == 1, said.stderr
    wrong = [line for line in said.stdout.splitlines() if line.startswith("FAIL")]
    for item, remedy in (
        ("flintlockd.", "host.sh install"),
        ("ca.pem.", "certificates.sh"),
        ("token.", "openssl rand"),
        ("thin pool", "host.sh install"),
        ("there is no bridge frbr0", "restart firerunner-host-network"),
        ("firerunner-host-flintlockd.", "journalctl -u firerunner-host-flintlockd"),
    ):
        assert any(item in line and remedy in line for line in wrong), (item, said.stdout)


def test_a_program_without_a_digest_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "host.conf").write_text(HOST_CONF)
    functions = f"source <(sed '$d' {DEPLOY / 'host.sh'}); DATA=$0; LIB=$0; fetch"
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")

    def fetch(digest: str) -> subprocess.CompletedProcess[str]:
        command = f"{functions} {program} '{digest}' FLINTLOCKD flintlockd"
        return subprocess.run(
            ["bash", "-c", command, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
        )

    digest = subprocess.run(
        ["sha256sum", program], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    assert "FLINTLOCKD_SHA256 is empty" in fetch("").stderr
    assert "has another SHA-256" in fetch("0" * 64).stderr
    assert not (tmp_path / "flintlockd").exists()
    assert fetch(digest).returncode == 0
    assert (tmp_path / "flintlockd").read_text() == program.read_text()
