"""The ledger's key is changed: broken off anywhere, killed, and while the service runs."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from firerunner import rotation
from firerunner.app import open_ledger
from firerunner.errors import KeyMissing
from firerunner.images import Image
from firerunner.ledger import Keyring, Ledger
from firerunner.ledger.secrets import Standing
from firerunner.machines.spec import Resources
from firerunner.settings import Settings, load_settings
from tests.postgresql import PostgreSQL, running
from tests.scene.controllers import Scene, scene
from tests.scene.guests import patient

pytestmark = pytest.mark.anyio

ANSWERS = 400
FINE = {Standing.FIRST: ANSWERS + 1, Standing.OLDER: 0, Standing.UNREADABLE: 0}


def settings_in(folder: Path, url: str | None = None) -> Settings:
    said = {
        "gitlab": {"url": "http://gitlab.test", "webhook_secret": "x" * 20},
        "state_dir": str(folder / "state"),
        "pools": [{"name": "small", "runner_token": "glrt-x", "image": "demo"}],
    } | ({"database": {"url": url}} if url else {})
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(said))
    return load_settings(path)


async def fill(ledger: Ledger) -> None:
    await ledger.add_sized_runner(
        pool="sized", gitlab="gitlab", template="t", tag="firecracker-1cpu-1gb", project_id=None,
        vcpu=1, memory_mib=1024, runner_id=1, token="glrt-sized",
    )  # fmt: skip
    await ledger.reserve("fr-aaaaaaaaaaaa", "small", "local", Resources(1, 1, 1), "x")
    for number in range(ANSWERS):
        await ledger.keep_answer("fr-aaaaaaaaaaaa", f"answer {number}".encode())


@pytest.fixture
async def settings(anyio_backend: str, tmp_path: Path) -> Settings:
    made = settings_in(tmp_path)
    async with open_ledger(made) as ledger:
        await fill(ledger)
    return made


async def standing(settings: Settings) -> dict[Standing, int]:
    """By the key file alone, as after a new start."""
    async with open_ledger(settings) as ledger:
        assert len(await ledger.unread_answers()) == ANSWERS
        assert (await ledger.sized_runners())[0].token == "glrt-sized"
        return await ledger.secrets_by_key()


async def test_the_key_is_another_one_afterwards_and_all_can_be_read(settings: Settings) -> None:
    before = settings.key_file.read_text()

    done = await rotation.rotate(settings)

    assert done == rotation.Rotated(resumed=False, secrets=ANSWERS + 1, removed=1)
    after = settings.key_file.read_text()
    assert len(after.split()) == 1
    assert before.strip() not in after
    assert settings.key_file.stat().st_mode & 0o777 == 0o600
    assert await standing(settings) == FINE


class Broken(Exception):
    """Where the program ended."""


@pytest.mark.parametrize("point", ["add", "rekey", "middle", "look", "keep"])
async def test_broken_off_anywhere_it_goes_on(
    settings: Settings, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise Broken

    with monkeypatch.context() as patch:
        patch.setattr("firerunner.ledger.secrets.REKEY_BATCH", 50)
        if point == "add":
            patch.setattr("firerunner.ledger.keyring._write_new", broken)
        elif point == "rekey":
            patch.setattr("firerunner.ledger.sized.rekey", broken)
        elif point == "middle":
            patch.setattr("firerunner.ledger.secrets.rekey", _third(Broken))
        elif point == "look":
            patch.setattr(rotation, "asyncio", SimpleNamespace(sleep=broken))
        else:
            patch.setattr(Keyring, "keep_first", broken)
        with pytest.raises(Broken):
            await rotation.rotate(settings)

    found = await standing(settings)
    assert found[Standing.UNREADABLE] == 0
    if point == "middle":
        assert found[Standing.FIRST] > 0 < found[Standing.OLDER]
    done = await rotation.rotate(settings)
    assert done.resumed == (point != "add")
    assert await standing(settings) == FINE
    assert Keyring.count(settings.key_file) == 1


def _third(error: type[Exception]) -> Callable[..., Any]:
    from firerunner.ledger import secrets

    plain, calls = secrets.rekey, [0]

    async def rekey(*args: Any, **how: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise error
        return await plain(*args, **how)

    return rekey


def program(settings: Settings, *words: str) -> list[str]:
    config = settings.state_dir.parent / "config.yaml"
    return [sys.executable, "-m", "firerunner", "key", *words, "--config", str(config)]


@pytest.mark.timeout(240)
async def test_killed_anywhere_it_loses_nothing(settings: Settings) -> None:
    chance, caught = random.Random(7), set()
    for _ in range(8):
        before = settings.key_file.read_text()
        running = subprocess.Popen(program(settings, "rotate"), stdout=subprocess.DEVNULL)
        try:
            while running.poll() is None and settings.key_file.read_text() == before:
                await asyncio.sleep(0.0005)
            await asyncio.sleep(chance.uniform(0.0, 0.15))
        finally:
            running.kill()
            running.wait()
        caught.add(Keyring.count(settings.key_file))
        assert (await standing(settings))[Standing.UNREADABLE] == 0

    assert 2 in caught, "it was never in the middle"
    last = subprocess.run(program(settings, "rotate"), capture_output=True, text=True, check=True)
    assert "removed" in last.stdout
    assert await standing(settings) == FINE
    checked = subprocess.run(program(settings, "check", "--json"), capture_output=True, check=True)
    assert json.loads(checked.stdout) == {"keys": 1, "first": ANSWERS + 1, "older": 0, "unreadable": 0}


async def test_what_cannot_be_read_is_told_and_no_key_is_touched(settings: Settings) -> None:
    own = settings.key_file.read_text()
    settings.key_file.write_text(another_key())
    other = settings.key_file.read_text()

    checked = subprocess.run(program(settings, "check"), capture_output=True, text=True, check=False)
    with pytest.raises(KeyMissing, match="cannot be decrypted"):
        await rotation.rotate(settings)

    assert checked.returncode == 1
    assert f"not readable: {ANSWERS + 1}" in checked.stdout
    assert settings.key_file.read_text() == other
    settings.key_file.write_text(other + own)
    await rotation.rotate(settings)
    assert await standing(settings) == FINE
    settings.key_file.unlink()
    with pytest.raises(KeyMissing, match="no key file"):
        await rotation.check(settings)
    assert not settings.key_file.exists()


def another_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode() + "\n"


@pytest.fixture
async def on_sqlite(image: Image) -> AsyncIterator[Scene]:
    async with scene(None, image, count=1) as built:
        await built.start_all()
        yield built


@pytest.mark.timeout(300)
async def test_a_service_that_runs_goes_on_with_the_new_key(on_sqlite: Scene) -> None:
    it = on_sqlite
    it.vmm.life = patient(3.0)
    config = it.controllers[0].config
    key = config.parent / "state" / "ledger.key"
    first = key.read_text()
    jobs = []
    for _ in range(4):
        jobs += await it.run_jobs(3)
        await it.until(lambda jobs=jobs: any(job.status == "running" for job in jobs))
        before = key.read_text()
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "firerunner", "key", "rotate", "--config", str(config)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert key.read_text() != before
        assert len(key.read_text().split()) == 1

    it.controllers[0].signal(signal.SIGKILL)  # what it has written is to be read with the file alone
    it.controllers[0].kill()
    assert first not in key.read_text()
    found = await rotation.check(load_settings(config))
    assert found.unreadable == found.older == 0
    it.controllers[0].start()
    await it.ended(jobs, 120.0)
    assert all(job.handed_out == 1 for job in jobs)
    assert "key file" not in it.controllers[0].said()


@pytest.mark.timeout(240)
async def test_several_controllers_take_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "SETTLE_S", 0.2)
    with running() as server:
        url = await fresh(server)
        settings = settings_in(tmp_path, url)
        there = tmp_path / "there"
        there.mkdir()
        other = settings_in(there, url)
        async with open_ledger(settings) as ledger:
            await fill(ledger)
        other.state_dir.mkdir(mode=0o700)
        copy(settings, other)

        with pytest.raises(KeyMissing, match="--begin"):
            await rotation.rotate(settings)
        with pytest.raises(KeyMissing, match="no rotation has begun"):
            await rotation.rotate(settings, "end")
        async with open_ledger(other) as elsewhere:
            await rotation.rotate(settings, "begin")
            await elsewhere.keep_answer("fr-aaaaaaaaaaaa", b"with the old key")
            writing = asyncio.create_task(_writing(elsewhere))
            with pytest.raises(KeyMissing, match="older key"):
                await rotation.rotate(settings, "end")
            assert Keyring.count(settings.key_file) == 2
            copy(settings, other)
            done = await rotation.rotate(settings, "end")
            copy(settings, other)
            await asyncio.sleep(0.5)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        assert done.removed == 1
        found = await rotation.check(other)
        assert found.older == found.unreadable == 0
        assert found.first > ANSWERS + 5


async def _writing(ledger: Ledger) -> None:
    for number in range(10_000):
        machine_id = f"fr-{number:012d}"  # of its own, as every ask has one
        await ledger.reserve(machine_id, "small", "local", Resources(1, 1, 1), "x")
        await ledger.keep_answer(machine_id, f"more {number}".encode())
        await asyncio.sleep(0.05)


def copy(settings: Settings, other: Settings) -> None:
    fresh = other.key_file.with_name("copy")
    fresh.touch(mode=0o600)
    fresh.write_text(settings.key_file.read_text())
    fresh.replace(other.key_file)


async def fresh(server: PostgreSQL) -> str:
    return await server.fresh_url()
