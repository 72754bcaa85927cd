"""Boots an image once, to learn what the gitlab-runner in it declares in its asks (`info`).

GitLab fails a job whose required features the ask lacks, so a pool's asks repeat what the runner in its
image really said. The machine speaks to a gate of ours on loopback that hands out no job.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import secrets
import socket
import tarfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from firerunner.errors import ImageError
from firerunner.images.manifest import BootFacts
from firerunner.images.progress import Progress, silent
from firerunner.images.store import Image, Store
from firerunner.machines.driver import Driver
from firerunner.machines.spec import MachineSpec, Resources
from firerunner.serving import served

ROOM: Final = Resources(vcpu=1, memory_mib=512, disk_mib=512)
DEADLINE_S: Final = 90.0
CLOUD_INIT_DEADLINE_S: Final = 300.0
_TRIES: Final = 2
_LOOK_S: Final = 1.0
_CONSOLE_BYTES: Final = 1500
_ID_CHARACTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


async def record_info(
    image: Image,
    store: Store,
    stage: Path,
    driver: Driver,
    *,
    progress: Progress = silent,
    deadline_s: float | None = None,
    accelerator: str = "unknown",
) -> Image:
    """The image with `info` and boot time filled in, under a new digest; the image without is removed.

    `stage` is one of the store's: as long as it is held, nobody else boots that image, or prunes it.

    An image with a Docker engine is booted twice, because its runner declares other features with Docker.
    `accelerator` names what runs guests here. Raises `ImageError` with the end of the guest's console if
    no ask comes within `deadline_s` seconds of two boots, and what the driver raises. The machine is gone
    afterwards, also when cancelled.
    """
    patience_s = deadline_s or (CLOUD_INIT_DEADLINE_S if image.manifest.cloud_init else DEADLINE_S)
    shell = await _recorded(image, driver, "shell", patience_s, progress)
    facts: dict[str, Any] = {
        "info": shell.info,
        "boot": BootFacts(seconds=round(shell.boot_s, 2), accelerator=accelerator),
    }
    if image.manifest.docker:
        facts["docker_info"] = (await _recorded(image, driver, "docker", patience_s, progress)).info
    return store.with_facts(stage, image, facts)


async def _recorded(
    image: Image, driver: Driver, executor: str, deadline_s: float, progress: Progress
) -> _Heard:
    for attempt in range(1, _TRIES + 1):
        progress("record", f"booting the image, to ask its runner what it can do (try {attempt})", None)
        outcome = await _boot(image, driver, executor, deadline_s)
        if isinstance(outcome, _Heard):
            info = outcome.info
            progress("record", f"{info.get('name')} {info.get('version')} has asked ({executor})", None)
            return outcome
    raise ImageError(
        f"image {image.manifest.name!r} did not come to its first ask: {outcome}",
        remedy="Look at the console above; `firerunner doctor` says whether machines can be made here",
    )


@dataclass(frozen=True, slots=True)
class _Heard:
    """What one boot has shown."""

    info: dict[str, Any]
    boot_s: float


async def _boot(image: Image, driver: Driver, executor: str, deadline_s: float) -> _Heard | str:
    """What was heard from the guest, or why nothing was."""
    machine_id = "fr-" + "".join(secrets.choice(_ID_CHARACTERS) for _ in range(12))
    async with _gate(machine_id, executor) as gate:
        spec = MachineSpec(
            machine_id=machine_id,
            resources=ROOM,
            image=image.files,
            gate=gate.address,
            credential=gate.credential,
            max_lifetime_s=deadline_s + 30,
        )
        try:
            started_at = time.monotonic()
            await driver.create(spec)
            ended = await _await_ask(gate, driver, machine_id, started_at + deadline_s)
            if gate.info is not None:
                return _Heard(gate.info, gate.booted_at - started_at)
            console = (await driver.console(machine_id, _CONSOLE_BYTES)).decode(errors="replace").strip()
            return f"{ended}. Its console ends with:\n{console or '(nothing)'}"
        finally:
            await asyncio.shield(driver.destroy(machine_id))


async def _await_ask(gate: _Gate, driver: Driver, machine_id: str, deadline: float) -> str:
    """Wait for the ask, the machine's end or the deadline; says which of the latter it was."""
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(gate.asked.wait(), _LOOK_S)
        if gate.asked.is_set():
            return ""
        sighting = next((seen for seen in await driver.list() if seen.machine_id == machine_id), None)
        if sighting is None or not sighting.alive:
            return f"the machine ended ({sighting.detail if sighting else 'it is not there'})"
    return "booted" if gate.booted_at else "it was not heard of in time"


@dataclass(slots=True)
class _Gate:
    """What the guest can see of us: `booted` with its files, and asks that get no job."""

    machine_id: str
    address: str
    credential: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    executor: str = "shell"
    booted_at: float = 0.0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    info: dict[str, Any] | None = None

    def application(self) -> Starlette:
        prefix = f"/m/{self.machine_id}"
        return Starlette(
            routes=[
                Route(f"{prefix}/guest/booted", self._on_booted, methods=["POST"]),
                Route(f"{prefix}/guest/ended", self._on_ended, methods=["POST"]),
                Route(f"{prefix}/api/v4/jobs/request", self._on_ask, methods=["POST"]),
            ]
        )

    async def _on_booted(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.credential}":
            return Response(status_code=403)
        self.booted_at = time.monotonic()
        # The guest sees the gate where its own call went.
        url = f"http://{request.headers['host']}/m/{self.machine_id}"
        return Response(_welcome(url, self.credential, self.executor), media_type="application/x-tar")

    async def _on_ended(self, request: Request) -> Response:
        return Response(status_code=204)

    async def _on_ask(self, request: Request) -> Response:
        try:
            info = json.loads(await request.body()).get("info")
        except (ValueError, AttributeError):
            info = None
        if isinstance(info, dict) and isinstance(info.get("features"), dict):
            self.info = info
            self.asked.set()
        return Response(status_code=204)


@contextlib.asynccontextmanager
async def _gate(machine_id: str, executor: str) -> AsyncIterator[_Gate]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gate = _Gate(machine_id, f"127.0.0.1:{listener.getsockname()[1]}", executor=executor)
        async with served(gate.application(), listener):
            yield gate


def _welcome(url: str, credential: str, executor: str) -> bytes:
    """The least that the guest needs: how to reach the gate, and the time."""
    special = '[runners.docker]\nimage = "none"\n' if executor == "docker" else 'shell = "bash"\n'
    config = (
        "concurrent = 1\n\n[[runners]]\n"
        f'name = "firerunner"\nurl = "{url}"\ntoken = "{credential}"\n'
        f'executor = "{executor}"\nbuilds_dir = "/builds"\ncache_dir = "/cache"\n{special}'
    )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, text in {"config.toml": config, "epoch": f"{int(time.time())}\n"}.items():
            entry = tarfile.TarInfo(f"run/firerunner/{name}")
            entry.size, entry.mode, entry.mtime = len(text), 0o600, int(time.time())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()
