"""`deploy/compose`: Compose takes it, what it mounts is there and valid, its secrets are made on the spot."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from firerunner.settings import load_settings
from tests.deploy.world import USER

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
FILE = FOLDER / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
MADE = {
    "secrets/postgres-password": 999,
    "secrets/grafana-password": 472,
    "firerunner/database-url": 10001,
    "firerunner/webhook-secret": 10001,
    "firerunner/api-read": 10001,
    "firerunner/api-operate": 10001,
}
YOURS = ("gate.pem", "gate.key", "ca.pem", "firerunner.pem", "firerunner.key", "kvm-1.token", "small.token")


def mounts(service: str) -> dict[str, Path]:
    """Where the service sees files of ours, and which."""
    found = {}
    for volume in SERVICES[service]["volumes"]:
        source, target = volume.split(":")[:2]
        if source.startswith("."):
            found[target] = (FOLDER / source).resolve()
    return found


def with_secrets(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Runs a script as root, or as what looks like root to it, in a copy of the folder."""
    return subprocess.run(
        ["unshare", *USER, "--mount", "bash", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the repository's files alone."""
    tracked = subprocess.run(
        ["git", "ls-files", "."], cwd=FOLDER, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in tracked:
        (tmp_path / "compose" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(FOLDER / name, tmp_path / "compose" / name)
    return tmp_path / "compose"


def test_compose_takes_it() -> None:
    # Debian 12 has Compose 1.29, which knows all of it but the project's name.
    text = re.sub(r"^name: .*\n", "", FILE.read_text(), count=1, flags=re.MULTILINE)
    assert text != FILE.read_text()

    done = subprocess.run(
        ["docker-compose", "--project-directory", str(FOLDER), "-f", "-", "config"],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert yaml.safe_load(done.stdout)["services"].keys() == SERVICES.keys()


def test_every_file_that_is_mounted_is_in_the_repository() -> None:
    tracked = set(
        subprocess.run(
            ["git", "ls-files", "--full-name", "."],
            cwd=ROOT / "deploy",
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
    )
    sources = {path for service in SERVICES for path in mounts(service).values()}

    assert len(sources) >= 7
    assert FOLDER / "firerunner" in sources
    assert [
        str(path) for path in sources if path.is_file() and str(path.relative_to(ROOT)) not in tracked
    ] == []
    assert [str(path) for path in sources if not path.exists()] == []


def test_no_password_is_in_the_repository_and_no_image_is_the_latest() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            assert ("PASSWORD" in key) == str(value).startswith("/run/secrets/"), (name, key)
        assert name == "firerunner" or re.fullmatch(r"[\w./-]+:v?\d+\.[\d.]+", service["image"]), name
    assert {Path(each["file"]).as_posix() for each in COMPOSE["secrets"].values()} <= MADE.keys()


def test_only_the_gate_is_open_to_other_computers() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]

    assert [port for port in ports if not port.startswith("127.0.0.1:")] == ["8443:8443"]
    assert "ports" not in SERVICES["postgres"]


def test_secrets_are_made_once_for_their_owners_alone_and_never_shown(folder: Path) -> None:
    look = f"stat -c '%n %u %a' {' '.join(MADE)}; cat {' '.join(MADE)}"
    first = with_secrets(folder, f"./secrets.sh && echo -- && {look}")
    assert first.returncode == 0, first.stderr
    said, _, facts = first.stdout.partition("--\n")
    lines = facts.splitlines()
    contents = lines[len(MADE) :]

    assert lines[: len(MADE)] == [f"{name} {owner} 600" for name, owner in MADE.items()]
    assert len(set(contents)) == len(MADE)
    assert contents[2] == f"postgresql://firerunner:{contents[0]}@postgres/firerunner"
    assert all(len(each) >= 64 for each in contents)
    assert not [each for each in contents if each in said + first.stderr]

    second = with_secrets(folder, f"./secrets.sh && echo -- && {look}")
    assert second.stdout == said.replace("made", "there already") + "--\n" + facts
    assert not list(folder.rglob("*.new"))


def test_a_secret_that_could_not_be_made_is_not_there_and_is_made_the_next_time(folder: Path) -> None:
    (folder / "bin").mkdir()
    (folder / "bin" / "openssl").write_text("#!/bin/sh\necho half\nexit 1\n")
    (folder / "bin" / "openssl").chmod(0o755)

    broken = with_secrets(folder, "PATH=$PWD/bin:$PATH ./secrets.sh")
    there = [name for name in MADE if (folder / name).exists()]
    again = with_secrets(folder, f"./secrets.sh > /dev/null && cat {' '.join(MADE)}")

    assert (broken.returncode, there) == (1, [])
    assert "half" not in again.stdout
    assert len(again.stdout.split()) == len(MADE)


def test_secrets_want_root(folder: Path) -> None:
    drop = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups") if os.geteuid() == 0 else ()
    done = subprocess.run(
        [*drop, "bash", "-s"],
        input=(folder / "secrets.sh").read_text(),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert "run this as root" in done.stderr
    assert not (folder / "secrets").exists()


def test_the_configuration_is_valid_with_the_files_that_it_names(folder: Path) -> None:
    for name in YOURS:
        (folder / "firerunner" / name).write_text("glrt-something\n")
    made = with_secrets(
        folder, f"./secrets.sh && chown -R 0:0 firerunner && chmod 600 firerunner/*; ls {folder}"
    )
    assert made.returncode == 0, made.stderr

    settings = load_settings(folder / "firerunner" / "config.yaml")

    assert settings.database.url is not None
    assert settings.database.url.get_secret_value().endswith("@postgres/firerunner")
    named = set(re.findall(r"_file: ([\w.-]+)", (folder / "firerunner" / "config.yaml").read_text()))
    ours = {Path(name).name for name in MADE if name.startswith("firerunner/")}
    assert named == ours | set(YOURS)
    assert all(name in (ROOT / "docs" / "containers.md").read_text() for name in YOURS)
    doors = {settings.listen.web, settings.listen.gate_https}
    assert {f"0.0.0.0:{port.split(':')[-1]}" for port in SERVICES["firerunner"]["ports"]} == doors


def test_prometheus_takes_its_files_and_finds_the_others(tmp_path: Path) -> None:
    for target, source in mounts("prometheus").items():
        assert target.startswith("/etc/prometheus/")
        shutil.copy(source, tmp_path / Path(target).name)

    done = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS: 19 rules found" in done.stdout
    config = yaml.safe_load((tmp_path / "prometheus.yml").read_text())
    told = config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    scraped = {
        target
        for job in config["scrape_configs"]
        for each in job["static_configs"]
        for target in each["targets"]
    }
    assert told == ["alertmanager:9093"]
    assert scraped == {"firerunner:8080", "127.0.0.1:9090", "alertmanager:9093"}


def test_alertmanager_takes_its_file() -> None:
    (source,) = (path for target, path in mounts("alertmanager").items() if target.endswith(".yml"))

    done = subprocess.run(
        ["amtool", "check-config", str(source)], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_is_given_its_data_and_the_dashboard() -> None:
    seen = mounts("grafana")
    provisioned = Path("/etc/grafana/provisioning")
    (data,) = (path for target, path in seen.items() if target.startswith(str(provisioned / "datasources")))
    (boards,) = (path for target, path in seen.items() if target.startswith(str(provisioned / "dashboards")))
    (source,) = yaml.safe_load(data.read_text())["datasources"]
    (provider,) = yaml.safe_load(boards.read_text())["providers"]

    assert (source["type"], source["url"], source["isDefault"]) == (
        "prometheus",
        "http://prometheus:9090",
        True,
    )
    (board,) = (path for target, path in seen.items() if target.startswith(provider["options"]["path"] + "/"))
    shown = json.loads(board.read_text())
    assert shown["uid"] == "firerunner"
    choices = {each["name"]: each for each in shown["templating"]["list"]}
    assert choices["datasource"]["query"] == source["type"]
