"""The archive for whoever is to help says much, and no secret."""

from __future__ import annotations

import asyncio
import json
import tarfile
from pathlib import Path

import pytest

from firerunner.errors import FireRunnerError
from tests.secrets.canaries import (
    API_TOKEN,
    DOCKER_PROXY,
    HOST_TOKEN,
    POOL_PROXY_PASSWORD,
    PROXY_PASSWORD,
    READ_TOKEN,
    RUNNER_CONFIG,
    RUNNER_TOKEN,
    WEBHOOK_SECRET,
    Secrets,
)
from tests.unit.operators.operators_given import (
    JOB_TOKEN,
    HeldClock,
    configured,
    days_work,
    ledger_of,
    run,
    settings_of,
)

SIZED_TOKEN = "glrt-canary-sized-token"
QUOTED = 'canary-"quoted"-\\-password-\u00e4'
"""JSON, YAML and URLs each write it in a way of their own."""


def with_canaries(folder: Path) -> Path:
    return configured(
        folder,
        gitlab={"url": "http://127.0.0.1:9", "api_token": API_TOKEN, "webhook_secret": WEBHOOK_SECRET},
        proxy={"url": f"http://us:{PROXY_PASSWORD}@127.0.0.1:9"},
        api={"read_token": READ_TOKEN},
        hosts=[
            {"name": "local"},
            {
                "name": "far",
                "driver": "flintlock",
                "address": "127.0.0.1:9",
                "token": HOST_TOKEN,
                "insecure": True,
                "gate_url": "http://192.0.2.1:8181",
                "timeout": "1s",
                "vcpu": 2,
                "memory_mib": 1024,
                "disk_mib": 1024,
            },
        ],
        pools=[
            {
                "name": "small",
                "runner_token": RUNNER_TOKEN,
                "image": "demo",
                "proxy": {"url": f"http://us:{POOL_PROXY_PASSWORD}@192.0.2.1:9"},
                "runner_config": f'environment = ["X={RUNNER_CONFIG}"]',
                "docker_daemon": {"proxies": {"http-proxy": f"http://us:{DOCKER_PROXY}@192.0.2.1:9"}},
            },
            {"name": "quoted", "runner_token": QUOTED.replace("\u00e4", ""), "image": "demo"},
        ],
        log={"file": str(folder / "firerunner.log")},
    )


async def fill(config: Path, words: str) -> None:
    """A ledger with secrets at rest, and a row in which a peer has repeated what it was shown."""
    clock = HeldClock()
    async with ledger_of(settings_of(config), clock) as ledger:
        await days_work(ledger, clock)
        await ledger.add_sized_runner(
            pool="s", gitlab="gitlab", template="t", tag="x", project_id=1, vcpu=1, memory_mib=1024,
            runner_id=5, token=SIZED_TOKEN,
        )  # fmt: skip
        await ledger.note("host", "far", "trouble", {"said": words})


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    known = Secrets()
    for name, value in (("job", JOB_TOKEN), ("sized", SIZED_TOKEN), ("q", QUOTED.replace("\u00e4", ""))):
        known.add(name, value)
    return known


def contents(bundle: Path) -> dict[str, bytes]:
    with tarfile.open(bundle) as tar:
        files = {entry.name.partition("/")[2]: tar.extractfile(entry) for entry in tar}
        return {name: file.read() for name, file in files.items() if file is not None}


def test_no_secret_is_in_it_and_all_the_rest_is(tmp_path: Path, secrets: Secrets) -> None:
    config, bundle = with_canaries(tmp_path), tmp_path / "bundle.tar.gz"
    said = " ".join([RUNNER_TOKEN, JOB_TOKEN, SIZED_TOKEN, HOST_TOKEN, PROXY_PASSWORD, DOCKER_PROXY])
    quoted = QUOTED.replace("\u00e4", "")
    asyncio.run(fill(config, f"{said} {quoted}"))
    key = (tmp_path / "state" / "ledger.key").read_text().strip()
    secrets.add("ledger key", key)
    (tmp_path / "firerunner.log").write_text(f"{said} {key} {json.dumps(quoted)}\n")

    done = run("support-bundle", "--output", str(bundle), "--json", "-c", str(config))

    assert done.exit_code == 0, done.output
    files = contents(bundle)
    assert {name: found for name, text in files.items() if (found := secrets.found_in(text))} == {}
    assert json.dumps(quoted)[1:-1].encode() not in b"".join(files.values())
    assert secrets.found_in(done.output.encode()) == set()
    assert {
        *("about.json", "settings.yaml", "findings.json", "hosts.json", "images.json", "log.txt"),
        *("leader.jsonl", "jobs.jsonl", "machines.jsonl", "journal.jsonl"),
    } <= files.keys()
    assert len(files["journal.jsonl"].splitlines()) > 20
    assert b"***" in files["log.txt"]
    assert b"credential_hash" not in files["machines.jsonl"]
    assert bundle.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_had_is_named_and_the_rest_is_there(config: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.tar.gz"

    missing = json.loads(run("support-bundle", "-o", str(bundle), "--json", "-c", str(config)).stdout)[
        "missing"
    ]

    assert any("journal.jsonl: there is no ledger at" in each for each in missing)
    files = contents(bundle)
    assert files["missing.txt"].decode().splitlines() == missing
    assert {"about.json", "settings.yaml", "findings.json"} <= files.keys()
    assert list((tmp_path / "state").glob("ledger*")) == []


def test_no_file_is_written_over(worked: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.tar.gz"
    bundle.touch()

    error = run("support-bundle", "-o", str(bundle), "-c", str(worked)).exception

    assert isinstance(error, FireRunnerError)
    assert "File exists. Name another file with --output" in str(error)
