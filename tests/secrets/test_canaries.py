"""The real service with a canary for every secret: after all that can happen, none is found in clear but
where the operator has put it."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from firerunner.images import Image
from tests.postgresql import PASSWORD, PostgreSQL, running
from tests.scene.controllers import Scene, scene
from tests.secrets.canaries import HOST_TOKEN, READ_TOKEN, Secrets
from tests.secrets.ordeal import CI, ENVIRONMENT, Ordeal, describe, secret_payloads
from tests.secrets.searching import descendants, in_files, in_processes, modes, of_directory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

OPEN_ON_PURPOSE = {".": 0o711}
"""Of the state directory; see docs/security.md."""


SLOW = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 switches it on: it takes three minutes")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=SLOW)])
def server(request: pytest.FixtureRequest) -> Iterator[PostgreSQL | None]:
    if request.param == "sqlite":
        yield None
        return
    with running() as started:
        yield started


async def test_no_secret_is_found_in_clear(server: PostgreSQL | None, image: Image) -> None:
    url = await server.fresh_url() if server else None
    secrets = Secrets()
    secrets.add("database password", PASSWORD)
    with secret_payloads():
        async with scene(
            url,
            image,
            count=1,
            flintlock_token=HOST_TOKEN,
            describe=describe,
            environment=ENVIRONMENT,
            pool={"limit": 4, "check_interval": "0.5s"},
        ) as it:
            await it.gitlab.commit(it.project, {".gitlab-ci.yml": CI})
            await it.start_all()
            ordeal = Ordeal(it)
            await ordeal.good_day()
            await ordeal.bad_day()
            await ordeal.wrong_configurations()
            await ordeal.echoed_job_tokens()
            await ordeal.echoes()
            await ordeal.crash()
            await ordeal.read_all()
            _learn(secrets, it)
            found = await _search(secrets, it, ordeal)
            if server is not None and url is not None:
                found += _search_server(secrets, server, url)
            found += await _search_at_rest(secrets, it)

    assert found == []
    assert len(secrets.known) > 30, "there is too little to look for"


def _learn(secrets: Secrets, it: Scene) -> None:
    """What was made on the way."""
    folder = it.controllers[0].config.parent
    for line in (folder / "state" / "ledger.key").read_text().split():
        secrets.add("ledger key", line)
    for job in it.gitlab.jobs():
        secrets.add("job token", job.token)
    for credential in it.vmm.credentials:
        secrets.add("machine credential", credential)
    for runner in it.gitlab.world.runners.values():
        secrets.add("runner token", runner.token)


async def _search(secrets: Secrets, it: Scene, ordeal: Ordeal) -> list[str]:
    """While the service runs."""
    controller = it.controllers[0]
    assert controller.process is not None
    folder = controller.config.parent
    pids = (descendants(controller.process.pid) | of_directory(folder)) - {os.getpid()}
    said = [f"{what}: {name}" for what, text in ordeal.said for name in sorted(secrets.found_in(text))]
    said += [f"the journal: {name}" for name in sorted(secrets.found_in(await ordeal.rows()))]
    given = {controller.process.pid: "read token"}
    assert READ_TOKEN.encode() in Path(f"/proc/{controller.process.pid}/environ").read_bytes()
    return said + in_processes(secrets, pids, given) + modes(folder / "state", OPEN_ON_PURPOSE)


async def _search_at_rest(secrets: Secrets, it: Scene) -> list[str]:
    """All files: log, database with its -wal, everything below the state directory, cores."""
    folder = it.controllers[0].config.parent
    its_own = [folder / "state" / "ledger.key", it.controllers[0].config, *(folder / "operator").iterdir()]
    the_fakes = list((folder / "gitlab").rglob("*"))
    return in_files(secrets, folder, {*its_own, *the_fakes})


def _search_server(secrets: Secrets, server: PostgreSQL, url: str) -> list[str]:
    """Every file of the server, its log too, and a dump, in which nothing is compressed."""
    found = in_files(secrets, server.folder, {server.folder / "password"})
    dump = subprocess.run(["pg_dump", "-d", url], capture_output=True, check=True, timeout=60).stdout
    assert b"journal" in dump
    return found + [f"the dump: {name}" for name in sorted(secrets.found_in(dump))]


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    secrets = Secrets({"one": "canary/one", "two": "canary-two"})
    (tmp_path / "plain").write_bytes(b"\0" * 10_000 + b"canary/one" + b"x")
    (tmp_path / "base64").write_text("Y2FuYXJ5LXR3bw==")
    (tmp_path / "url").write_text("http://canary%2Fone@x")
    (tmp_path / "packed").write_bytes(gzip.compress(b"canary-two"))
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"canary-two")

    assert in_files(secrets, tmp_path) == ["base64: two", "plain: one", "sparse: two", "url: one"]
    pipe = subprocess.PIPE
    done = subprocess.Popen(["cat"], env={"X": "canary-two"}, stdin=pipe, stdout=pipe, bufsize=0)
    try:
        _answers(done)
        assert in_processes(secrets, [done.pid], {}) == [f"environ of {done.pid} (cat): two"]
        assert in_processes(secrets, [done.pid], {done.pid: "two"}) == []
    finally:
        done.kill()
        done.wait()
        for stream in (done.stdin, done.stdout):
            assert stream is not None
            stream.close()
    (tmp_path / "plain").chmod(0o644)
    assert "plain has mode 0644" in modes(tmp_path, {})


def _answers(echo: subprocess.Popen[bytes]) -> None:
    """Returns when it runs: a process that has only just been started has no environment yet (proc(5))."""
    assert echo.stdin is not None
    assert echo.stdout is not None
    echo.stdin.write(b"\n")
    echo.stdout.read(1)
