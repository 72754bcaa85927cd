"""`make dist`: the same bytes for the same commit, all that the program needs, and installed it runs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from firerunner import __version__
from firerunner.demo.stage import free_port

ROOT = Path(__file__).parents[2]
NAME = f"firerunner-{__version__}"
SLOW = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 switches it on: it installs 60 packages")
START_S = 60.0


def make_dist(folder: Path, *, umask: int = 0o022, **environment: str) -> None:
    subprocess.run(
        [str(ROOT / "scripts" / "dist.sh"), sys.executable, str(folder)],
        env={**os.environ, **environment},
        umask=umask,
        capture_output=True,
        check=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    make_dist(folder)
    return folder


def committed() -> dict[str, str]:
    """SHA-256 of each file of the package in the last commit."""
    archive = subprocess.run(
        ["git", "archive", "HEAD", "src/firerunner"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        return {
            member.name.removeprefix("src/"): hashlib.sha256(taken.read()).hexdigest()
            for member in files
            if (taken := files.extractfile(member)) is not None
        }


def test_the_same_commit_gives_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    make_dist(tmp_path, umask=0o077, TZ="Asia/Kathmandu", LC_ALL="C", SOURCE_DATE_EPOCH="1")

    assert (tmp_path / "SHA256SUMS").read_text() == (dist / "SHA256SUMS").read_text()
    checked = subprocess.run(
        ["sha256sum", "-c", "--strict", "SHA256SUMS"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert checked.stdout.splitlines() == [
        f"{NAME}-py3-none-any.whl: OK",
        f"{NAME}.lock: OK",
        f"{NAME}.tar.gz: OK",
    ]


def test_the_wheel_holds_the_package_whole_and_nothing_else(dist: Path) -> None:
    with zipfile.ZipFile(dist / f"{NAME}-py3-none-any.whl") as wheel:
        held = {name: hashlib.sha256(wheel.read(name)).hexdigest() for name in wheel.namelist()}
        entry_points = wheel.read(f"{NAME}.dist-info/entry_points.txt").decode()
    about = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}

    assert {name: digest for name, digest in held.items() if ".dist-info/" not in name} == committed()
    assert {name for name in held if ".dist-info/" in name} == about | {f"{NAME}.dist-info/licenses/LICENSE"}
    assert entry_points == "[console_scripts]\nfirerunner = firerunner.cli.main:main\n"


def test_a_wheel_out_of_the_sdist_is_the_same(dist: Path, tmp_path: Path) -> None:
    with tarfile.open(dist / f"{NAME}.tar.gz") as sdist:
        dated = {member.mtime for member in sdist}
        sdist.extractall(tmp_path, filter="data")
    (date,) = dated

    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=tmp_path / NAME,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(int(date))},
        capture_output=True,
        check=True,
        timeout=120,
    )

    wheel = f"{NAME}-py3-none-any.whl"
    assert (tmp_path / wheel).read_bytes() == (dist / wheel).read_bytes()


def test_what_builds_it_is_locked_as_for_developers() -> None:
    def pins(lock: str) -> set[str]:
        lines = (ROOT / "requirements" / lock).read_text().splitlines()
        return {line.split()[0] for line in lines if "==" in line and not line.startswith(" ")}

    assert any(pin.startswith("hatchling==") for pin in pins("build.lock"))
    assert pins("build.lock") <= pins("dev.lock")


@dataclass(frozen=True)
class Installed:
    """By pipx, away from the checkout."""

    program: Path
    home: Path

    def environment(self) -> dict[str, str]:
        """Nothing of the checkout or of this virtual environment."""
        kept = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "SSL_", "LANG"))}
        return {
            **kept,
            "PATH": f"{self.program.parent}:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.home),
            "PIPX_HOME": str(self.home / "pipx"),
            "PIPX_BIN_DIR": str(self.program.parent),
        }

    def run(self, *command: str, status: int = 0) -> str:
        """What it prints. Fails if it ends with another status."""
        done = subprocess.run(
            command,
            cwd="/",
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """As docs/packages.md says it."""
    home = tmp_path_factory.mktemp("home")
    away = Installed(home / "bin" / "firerunner", home)
    wheel = dist / f"{NAME}-py3-none-any.whl"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    away.run(
        "pipx",
        "install",
        f"--pip-args=--require-hashes --constraint {dist / f'{NAME}.lock'}",
        f"firerunner @ file://{wheel}#sha256={digest}",
    )
    return away


@SLOW
def test_pipx_installs_what_is_locked_and_all_files_are_there(installed: Installed) -> None:
    python = installed.home / "pipx" / "venvs" / "firerunner" / "bin" / "python"
    package = Path(
        installed.run(str(python), "-c", "import firerunner; print(firerunner.__path__[0])").strip()
    )
    frozen = installed.run(str(python), "-m", "pip", "freeze", "--exclude", "firerunner").splitlines()
    lock = (ROOT / "requirements" / "run.lock").read_text()

    assert package.is_relative_to(installed.home)
    found = {
        f"firerunner/{path.relative_to(package)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert found == committed()
    assert len(frozen) > 40
    assert [pin for pin in frozen if pin.lower().replace("_", "-") not in lock] == []
    assert installed.run("firerunner", "--version") == f"firerunner {__version__}\n"
    assert "pools" in json.loads(installed.run("firerunner", "config", "schema"))["properties"]


@pytest.fixture
def serving(installed: Installed, tmp_path: Path) -> Iterator[str]:
    """The address of the installed program's web listener; its ledger is new, its GitLab does not answer."""
    web, gate, nowhere = free_port(), free_port(), free_port()
    config = {
        "state_dir": str(tmp_path / "state"),
        "gitlab": {"url": f"http://127.0.0.1:{nowhere}"},
        "webhook": {"insecure": True},
        "api": {"read_token": "r" * 32},
        "listen": {"web": f"127.0.0.1:{web}", "gate": f"127.0.0.1:{gate}"},
        "hosts": [
            {
                "name": "kvm-1",
                "driver": "flintlock",
                "address": f"127.0.0.1:{nowhere}",
                "insecure": True,
                "gate_url": f"http://127.0.0.1:{gate}",
                "vcpu": 2,
                "memory_mib": 2048,
                "disk_mib": 4096,
            }
        ],
        "pools": [{"name": "small", "runner_token": "glrt-away", "image": "none", "memory_mib": 1024}],
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    file.chmod(0o600)
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "firerunner", "serve", "--config", str(file)],
            cwd="/",
            env=installed.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield address_once_it_answers(web, process, log)
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def address_once_it_answers(port: int, process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return f"http://127.0.0.1:{port}"
    raise AssertionError(log.read_text())


@SLOW
def test_the_installed_service_answers_with_its_pages_and_their_files(serving: str) -> None:
    static = ROOT / "src" / "firerunner" / "web" / "dashboard" / "static"
    with httpx.Client(base_url=serving, trust_env=False, follow_redirects=True) as http:
        assert http.get("/health").status_code == 200
        assert "firerunner_leader 1.0" in http.get("/metrics").text
        page = http.get("/")

        assert page.status_code == 200
        assert "FireRunner" in page.text
        for file in static.iterdir():
            answer = http.get(f"/static/{file.name}")
            assert (answer.status_code, answer.content) == (200, file.read_bytes())
