"""`install.sh` in a Debian of its own, with systemd as process 1: jobs, an upgrade, removal. SLOW=1."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from firerunner.images import Image
from tests.deploy.computer import ROOT
from tests.deploy.debian import Debian, debian

pytestmark = [
    pytest.mark.vm,
    pytest.mark.anyio,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 switches it on: it takes minutes"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can boot a systemd of its own"),
]

CONFIG = """
gitlab: {{url: {url}, clone_url: {external_url}}}
pools:
  - name: small
    runner_token_file: small.token
    image: demo
    vcpu: 1
    memory_mib: 256
    disk_mib: 1024
    limit: 2
"""
CI = "{name}:\n  tags: [small]\n  script: [echo hello from my machine, sleep {seconds}]\n"
SOURCE = "/root/release"
JOB_S = 240
SOCKETS = ("firerunner-gate.socket", "firerunner-web.socket")


class GitLab:
    """The fake one as a program in the other's network, asked by curl."""

    def __init__(self, made: Debian, ready: dict[str, Any]) -> None:
        self._made, self.ready = made, ready

    def ask(self, method: str, path: str, body: object = None) -> Any:
        return json.loads(self._asked(method, path, body))

    def _asked(self, method: str, path: str, body: object = None) -> bytes:
        data = [] if body is None else ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        url = f"{self.ready['control_url']}{path}"
        done = subprocess.run(
            self._made.beside("curl", "-sS", "--noproxy", "*", "-X", method, *data, url),
            check=True,
            capture_output=True,
        )
        return done.stdout

    def job(self, name: str, seconds: int) -> int:
        ci = CI.format(name=name, seconds=seconds)
        project = self.ask("POST", "/projects", {"path": f"demo/{name}", "files": {".gitlab-ci.yml": ci}})
        (job,) = self.ask("POST", "/pipelines", {"project": project["id"]})["jobs"]
        return int(job["id"])

    def end_of(self, job: int) -> str:
        """Its status when it has ended."""
        return str(self.ask("GET", f"/jobs/{job}/wait?timeout_s={JOB_S}")["status"])

    def wait_for_its_script(self, job: int) -> None:
        deadline = time.monotonic() + JOB_S
        while b"hello from" not in (said := self._asked("GET", f"/jobs/{job}/trace")):
            assert time.monotonic() < deadline, said
            time.sleep(0.5)


@contextmanager
def gitlab(made: Debian, data: Path) -> Iterator[GitLab]:
    command = [
        "-m",
        "firerunner.fakes.gitlab",
        "--data",
        str(data),
        "--external-url",
        "http://gitlab.test:PORT",
    ]
    with subprocess.Popen(
        made.beside(sys.executable, *command), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield GitLab(made, json.loads(process.stdout.readline()))
        finally:
            process.terminate()


def unpack(made: Debian) -> None:
    """The files of this repository, as a release would have them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in listed.stdout.decode().rstrip("\0").split("\0"):
        target = Path(f"{made.root}{SOURCE}", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)


def configure(made: Debian, peer: GitLab, image: Image) -> None:
    """What an operator does as root, the image by a copy."""
    token = peer.ask("POST", "/runners", {"tags": ["small"], "run_untagged": False})["token"]
    etc, images = made.root / "etc/firerunner", made.root / "var/lib/firerunner/images"
    (etc / "config.yaml").write_text(CONFIG.format(**peer.ready))
    (etc / "small.token").write_text(token)
    (images / "names").mkdir(parents=True)
    stored = image.files.kernel.parent
    shutil.copytree(stored, images / stored.name)
    shutil.copy(stored.parent / "names" / "demo", images / "names" / "demo", follow_symlinks=False)


def install(made: Debian, *flags: str, status: int = 0) -> str:
    return made.run(f"{SOURCE}/install.sh", "--yes", *flags, online=True, status=status)


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
async def test_a_debian_gets_it_runs_jobs_is_upgraded_and_is_rid_of_it(
    image: Image, tmp_path: Path, suite: str
) -> None:
    with debian(suite) as made:
        unpack(made)
        said = install(made)
        assert "is installed. Now:" in said
        assert "write /etc/firerunner/config.yaml" in said
        assert made.run("systemctl", "is-active", "firerunner", status=3).strip() == "inactive"
        assert "nothing to do" in install(made)
        first = made.run("readlink", "/opt/firerunner/current")

        with gitlab(made, tmp_path / "gitlab") as peer:
            configure(made, peer, image)
            assert "is right" in made.run("firerunner", "config", "check")
            made.run("systemctl", "enable", "--now", *SOCKETS, "firerunner")
            job = peer.job("one", 1)
            assert peer.end_of(job) == "success", made.run("journalctl", "--no-pager", "-u", "firerunner")

            # QEMU, keeper and service: users, and what is left to them.
            job = peer.job("two", 120)
            peer.wait_for_its_script(job)
            qemu = made.run(
                "pgrep", "-f", "^/usr/bin/qemu-system-x86_64 -name guest=/var/lib/firerunner/m"
            ).strip()
            status = dict(
                line.split(":\t", 1)
                for line in made.run("cat", f"/proc/{qemu}/status").splitlines()
                if ":\t" in line
            )
            assert int(status["Uid"].split()[0]) >= 1_900_000_000
            assert (int(status["CapEff"], 16), status["NoNewPrivs"]) == (0, "1")
            forwards = made.run(
                "nsenter",
                "-t",
                qemu,
                "-n",
                "cat",
                "/proc/sys/net/ipv4/conf/all/rp_filter",
                "/proc/sys/net/ipv6/conf/all/disable_ipv6",
            )
            assert forwards.split() == ["1", "1"]

            # An upgrade under that job.
            changed = Path(f"{made.root}{SOURCE}/src/firerunner/clock.py")
            changed.write_text(f"{changed.read_text()}\n# newer\n")
            said = install(made)
            assert "copied the ledger" in said
            assert made.run("readlink", "/opt/firerunner/previous") == first
            assert made.run("readlink", "/opt/firerunner/current") != first
            assert peer.end_of(job) == "success", made.run("journalctl", "--no-pager", "-u", "firerunner")

            # Removal has to wait for the last job, and then leaves nothing.
            job = peer.job("three", 30)
            peer.wait_for_its_script(job)
            assert "microVMs run here" in install(made, "--uninstall", status=2)
            made.run("firerunner", "drain", "local")
            assert peer.end_of(job) == "success"
        install(made, "--uninstall", "--purge")
        left = "ls -d /opt/firerunner /etc/firerunner /var/lib/firerunner /etc/systemd/system/f* 2>&- || true"
        assert made.run("sh", "-c", left) == ""
        assert "fire" not in made.run("cat", "/etc/passwd")
        assert "0 loaded units listed" in made.run(
            "systemctl", "list-units", "--all", "--no-pager", "firerunner*"
        )
