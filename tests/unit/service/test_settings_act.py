"""Where a service keeps things, how it logs and for how long it remembers, as the settings say."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from firerunner.app import open_ledger
from firerunner.demo.stage import free_port
from firerunner.errors import HostUnusable
from firerunner.hosting import driver_of
from firerunner.ledger import Keyring, Ledger, MachineState
from firerunner.machines.spec import Resources
from firerunner.settings import load_settings

pytestmark = pytest.mark.anyio

DAY_S = 86_400.0
OLD = "fr-abcdefghijkl"
POOL = {"name": "small", "runner_token": "glrt-x", "image": "none", "memory_mib": 128, "disk_mib": 64}


@dataclass
class Started:
    """A service that says that it serves, and what it has logged until it ended."""

    config: Path
    log: str = ""


@asynccontextmanager
async def serving(folder: Path, said: str = "serving", **settings: Any) -> AsyncIterator[Started]:
    config = configured(folder, **settings)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "firerunner", "serve", "--config", str(config)),
        stderr=asyncio.subprocess.PIPE,
    )
    it = Started(config)
    try:
        while said not in it.log:
            line = await process.stderr.readline()  # type: ignore[union-attr]
            assert line, it.log
            it.log += line.decode()
        yield it
        process.send_signal(signal.SIGINT)
        it.log += (await process.stderr.read()).decode()  # type: ignore[union-attr]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def configured(folder: Path, **settings: Any) -> Path:
    config = folder / "config.yaml"
    base = {
        "state_dir": str(folder / "state"),
        "gitlab": {"url": "http://127.0.0.1:9"},
        "listen": {"web": f"127.0.0.1:{free_port()}", "gate": f"127.0.0.1:{free_port()}"},
        "pools": [POOL],
    }
    config.write_text(yaml.safe_dump(base | settings))
    return config


async def test_ledger_and_key_lie_where_the_settings_say(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    database = {"url": f"sqlite:///{elsewhere}/jobs.db", "key_file": str(elsewhere / "the.key")}
    async with serving(tmp_path, database=database):
        there = {path.name for path in elsewhere.iterdir()}

    assert {"jobs.db", "the.key"} <= there
    assert list((tmp_path / "state").rglob("*.db")) == []


async def test_without_them_all_is_in_the_state_directory(tmp_path: Path) -> None:
    async with serving(tmp_path):
        there = {path.suffix for path in (tmp_path / "state").iterdir()}

    assert {".db", ".key"} <= there


async def remember(state_dir: Path, at: float) -> None:
    """A machine that is long gone."""
    keys = Keyring.load_or_create(state_dir / "ledger.key")
    ledger = await Ledger.open(f"sqlite:///{state_dir / 'ledger.db'}", keys, lambda: at)
    await ledger.reserve(OLD, pool="small", host="local", resources=Resources(1, 128, 64), image_digest="x")
    for state in (MachineState.RETIRING, MachineState.GONE):
        await ledger.move_machine(OLD, state)
    await ledger.aclose()


@pytest.mark.parametrize(("days", "kept"), [(1, False), (30, True)])
async def test_what_is_over_is_kept_for_so_many_days(tmp_path: Path, days: int, kept: bool) -> None:
    async with serving(tmp_path) as it:
        settings = load_settings(it.config)
    await remember(tmp_path / "state", at=time.time() - 10 * DAY_S)

    async with (
        serving(tmp_path, database={"keep_days": days}),
        open_ledger(settings) as ledger,
        asyncio.timeout(20),
    ):
        while (await ledger.machine(OLD) is not None) is not kept:
            await asyncio.sleep(0.05)
        if kept:
            await asyncio.sleep(0.5)
        assert (await ledger.machine(OLD) is not None) is kept


async def test_logs_have_the_form_and_the_level_that_is_set(tmp_path: Path) -> None:
    async with serving(tmp_path, log={"format": "json", "level": "info"}) as as_json:
        pass
    async with serving(tmp_path, log={"format": "console"}) as readable:
        pass
    async with serving(tmp_path, "image", log={"format": "json", "level": "error"}) as short:
        pass

    lines = [json.loads(line) for line in as_json.log.splitlines()]
    assert {"serving", "stopped"} <= {line["event"] for line in lines}
    assert re.search(r"\[info\s*\] serving", readable.log)
    assert {json.loads(line)["level"] for line in short.log.splitlines()} == {"error"}


async def test_the_log_goes_to_a_file_that_is_rotated_as_the_settings_say(tmp_path: Path) -> None:
    path = tmp_path / "log" / "firerunner.log"
    path.parent.mkdir()
    path.write_text("x" * (1024 * 1024 - 1) + "\n")
    for day, age_days in (("20250102", 1), ("20250103", 1), ("20250104", 40)):  # too many, kept, too old
        aside = path.with_name(f"{path.name}.{day}T000000.000000000")
        aside.write_text(day)
        os.utime(aside, (time.time() - age_days * DAY_S,) * 2)
    log = {"file": str(path), "max_mib": 1, "keep_files": 2, "keep_days": 1.5, "compress": True}
    config = configured(tmp_path, log=log)

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "firerunner", "serve", "--config", str(config)),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        while '"serving"' not in path.read_text():
            await asyncio.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, told = await process.communicate()

    assert told == b""
    assert "stopped" in {json.loads(line)["event"] for line in path.read_text().splitlines()}
    yesterdays, full = sorted(path.parent.glob("*.gz"))
    assert yesterdays.name.startswith(f"{path.name}.20250103")
    assert len(gzip.decompress(full.read_bytes())) == 1024 * 1024
    assert len(list(path.parent.iterdir())) == 3


async def test_images_are_looked_for_where_the_settings_say(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    async with serving(tmp_path, said="no image", image_dir=str(images)) as it:
        listed = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "firerunner", "image", "list", "--config", str(it.config)),
            stdout=asyncio.subprocess.PIPE,
        )
        await listed.communicate()

    assert str(images) in it.log
    assert listed.returncode == 0


async def test_a_host_gives_out_what_the_settings_say(tmp_path: Path) -> None:
    base = {"gitlab": {"url": "http://127.0.0.1:9"}, "state_dir": str(tmp_path), "pools": [POOL]}
    host = {"vcpu": 3, "memory_mib": 700, "disk_mib": 900}
    settings = load_settings(written(tmp_path, base | {"hosts": [host]}))
    full = load_settings(written(tmp_path, base | {"hosts": [host | {"keep_free_mib": 1 << 40}]}))

    driver, nearly_full = (driver_of(each, each.hosts[0]) for each in (settings, full))
    try:
        assert await driver.capacity() == Resources(3, 700, 900)
        with pytest.raises(HostUnusable, match="to be kept free"):
            await nearly_full.capacity()
    finally:
        await driver.aclose()
        await nearly_full.aclose()


def written(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path
