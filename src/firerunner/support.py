"""Gathers what helps somebody else to understand an installation, into one archive without secrets.

Each part is gathered for itself: what cannot be had (a database that does not answer, a host that is down) is
named in `missing.txt`, and the rest is there. Consoles of guests are left out, because a job can write there
what it likes. No text goes in before every secret that we know has been taken out of it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import os
import platform
import sqlite3
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, SecretStr

from firerunner import __version__
from firerunner.app import existing_ledger, image_store
from firerunner.doctor import examine_hosts, examine_settings
from firerunner.errors import FireRunnerError
from firerunner.fleet_view import hosts_now
from firerunner.hiding import without
from firerunner.ledger import DIGESTS, Ledger, MachineState
from firerunner.settings import Settings

PART_S = 60.0
"""No part is waited for longer."""
JOURNAL_ROWS = 5000
JOBS = 1000
LOG_BYTES = 4 * 1024 * 1024

Part = Callable[[], Awaitable[str]]


async def write_bundle(settings: Settings, path: Path) -> list[str]:
    """Make the archive (gzip, mode 0600); what could not be had. Raises FireRunnerError if it cannot be
    written."""
    secrets = list(secrets_of(settings))
    missing: list[str] = []
    parts: dict[str, str] = {}
    secrets += await _known_to_ledger(settings, missing)
    for name, part in _parts(settings).items():
        try:
            async with asyncio.timeout(PART_S):
                parts[name] = await part()
        except TimeoutError:
            missing.append(f"{name}: nothing in {PART_S:.0f} s")
        except (FireRunnerError, OSError) as error:
            missing.append(f"{name}: {error}")
    if missing:
        parts["missing.txt"] = "".join(f"{each}\n" for each in missing)
    _write(path, {name: without(text, secrets) for name, text in parts.items()})
    return [without(each, secrets) for each in missing]


def secrets_of(settings: Settings) -> Iterator[str]:
    """Every secret of the settings in clear, the passwords within addresses too."""
    for value in _leaves(settings):
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(value, SecretStr):
            yield text
        if "://" in text:
            yield from _password_in(text)


def _password_in(address: str) -> Iterator[str]:
    try:
        password = urlsplit(address).password
    except ValueError:
        return
    if password:
        yield password


def _leaves(value: Any) -> Iterator[str | SecretStr]:
    if isinstance(value, str | SecretStr):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _leaves(getattr(value, name))
    elif isinstance(value, dict):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _leaves(each)


async def _known_to_ledger(settings: Settings, missing: list[str]) -> list[str]:
    """Tokens of open jobs and of sized runners, and the ledger's own keys."""
    found: list[str] = []
    try:
        found += settings.key_file.read_text(encoding="ascii").split()
        async with existing_ledger(settings, key_is_there=True) as ledger:
            found += [runner.token for runner in await ledger.sized_runners()]
            found += [token for job in await ledger.jobs() if (token := await ledger.job_token(job.job_id))]
    except (FireRunnerError, OSError) as error:
        missing.append(f"secrets in the ledger, to be taken out: {error}")
    return found


def _parts(settings: Settings) -> dict[str, Part]:
    async def about() -> str:
        return _json(_about())

    async def shown() -> str:
        return yaml.safe_dump(settings.shown(), sort_keys=False)

    async def findings() -> str:
        found = await examine_hosts(settings) + await examine_settings(settings)
        return _json([dataclasses.asdict(finding) for finding in found])

    async def hosts() -> str:
        return _json([dataclasses.asdict(view) for view in await hosts_now(settings)])

    async def images() -> str:
        store = image_store(settings)
        listed = await asyncio.to_thread(store.manifests)
        facts = [{"digest": each.digest, "runner": each.runner.model_dump(mode="json")} for each in listed]
        return _json({"names": store.names(), "images": facts})

    async def log() -> str:
        return await asyncio.to_thread(_log_tail, settings.log.file)

    def of_ledger(read: Callable[[Ledger], AsyncIterator[Any]]) -> Part:
        async def lines() -> str:
            async with existing_ledger(settings, key_is_there=True) as ledger:
                return "".join([f"{json.dumps(each, default=str)}\n" async for each in read(ledger)])

        return lines

    parts: dict[str, Part] = {
        "about.json": about,
        "settings.yaml": shown,
        "findings.json": findings,
        "hosts.json": hosts,
        "images.json": images,
        "leader.jsonl": of_ledger(_leader),
        "jobs.jsonl": of_ledger(_jobs),
        "machines.jsonl": of_ledger(_machines),
        "journal.jsonl": of_ledger(_journal),
    }
    return parts | ({"log.txt": log} if settings.log.file else {})


def _about() -> dict[str, Any]:
    need = ("sqlalchemy", "alembic", "httpx", "fastapi", "uvicorn", "pydantic", "grpcio", "cryptography")
    return {
        "made_at": time.time(),
        "firerunner": __version__,
        "python": sys.version,
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: metadata.version(name) for name in need},
        "kernel": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "os": _os_release(),
        "user": os.geteuid(),
        "kvm": os.access("/dev/kvm", os.R_OK | os.W_OK),
    }


def _os_release() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


async def _leader(ledger: Ledger) -> AsyncIterator[Any]:
    lease = await ledger.lease()
    yield dataclasses.asdict(lease) if lease else None


async def _jobs(ledger: Ledger) -> AsyncIterator[Any]:
    for job in await ledger.jobs_page(None, limit=JOBS):
        yield dataclasses.asdict(job)


async def _machines(ledger: Ledger) -> AsyncIterator[Any]:
    for machine in (await ledger.machines(frozenset(MachineState)))[-JOBS:]:
        yield {k: v for k, v in dataclasses.asdict(machine).items() if k not in DIGESTS}


async def _journal(ledger: Ledger) -> AsyncIterator[Any]:
    for entry in await ledger.last_journal(limit=JOURNAL_ROWS):
        yield dataclasses.asdict(entry)


def _log_tail(path: Path | None) -> str:
    if path is None:
        return ""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
        return file.read().decode("utf-8", "replace")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, default=str) + "\n"


def _write(path: Path, parts: dict[str, str]) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise FireRunnerError(
            f"cannot write {path}: {error.strerror}", remedy="Name another file with --output"
        ) from error
    try:
        with os.fdopen(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
            for entry, content in _entries(path.name.removesuffix(".tar.gz"), parts.items()):
                tar.addfile(entry, io.BytesIO(content))
    except OSError as error:
        path.unlink(missing_ok=True)
        raise FireRunnerError(
            f"cannot write {path}: {error.strerror}", remedy="Make room, or name another file with --output"
        ) from error


def _entries(folder: str, parts: Iterable[tuple[str, str]]) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    for name, text in parts:
        content = text.encode("utf-8", "replace")
        entry = tarfile.TarInfo(f"{folder}/{name}")
        entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
        yield entry, content
