"""The flintlock driver for the contract suite on a host that the caller names: `make test-flintlock`.

Everything comes by the environment (docs/flintlock.md): FLINTLOCK (host:port), FLINTLOCK_HERE (this computer,
as guests there reach it; they must be let through to its TCP ports), FLINTLOCK_REGISTRY (HOST/REPOSITORY,
that we may push to and the host pulls from), and where they are wanted FLINTLOCK_CA, FLINTLOCK_CERT,
FLINTLOCK_KEY, FLINTLOCK_SERVER_NAME, FLINTLOCK_TOKEN, FLINTLOCK_BRIDGE, FLINTLOCK_REGISTRY_INSECURE.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from firerunner.images import Manifest, RunnerFacts, RunnerKind, Store
from firerunner.images.exchange import Way, push
from firerunner.images.manifest import ImageFile
from firerunner.images.store import file_facts
from firerunner.machines.flintlock.channel import Endpoint, Tls
from firerunner.machines.flintlock.driver import FlintlockDriver
from firerunner.machines.flintlock.request import Place
from firerunner.machines.spec import ImageFiles, MachineSpec, Resources
from tests.contract.flintlock_kit import CREATE_AND_DIE, ROOM, Following

NAMESPACE = "firerunner-test"
NEEDED = ("FLINTLOCK", "FLINTLOCK_HERE", "FLINTLOCK_REGISTRY")


def is_given() -> bool:
    """True if a caller has named a host."""
    return bool(os.environ.get("FLINTLOCK"))


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller says, checked."""

    endpoint: Endpoint
    here: str
    registry: str
    way: Way
    bridge: str | None

    @classmethod
    def by_environment(cls, environment: Mapping[str, str]) -> Given:
        missing = [name for name in NEEDED if not environment.get(name)]
        assert not missing, f"make test-flintlock needs {', '.join(missing)}: see docs/flintlock.md"

        def path(name: str) -> Path | None:
            return Path(environment[name]) if environment.get(name) else None

        tls = None
        if path("FLINTLOCK_CA") is not None:
            name = environment.get("FLINTLOCK_SERVER_NAME")
            tls = Tls(path("FLINTLOCK_CA"), path("FLINTLOCK_CERT"), path("FLINTLOCK_KEY"), name)
        return cls(
            Endpoint(environment["FLINTLOCK"], tls, environment.get("FLINTLOCK_TOKEN")),
            environment["FLINTLOCK_HERE"],
            environment["FLINTLOCK_REGISTRY"],
            Way(insecure=bool(environment.get("FLINTLOCK_REGISTRY_INSECURE"))),
            environment.get("FLINTLOCK_BRIDGE"),
        )


@dataclass(slots=True)
class RealFlintlockKit:
    """One host of the caller's. Ours is the namespace `firerunner-test` there."""

    given: Given
    image: ImageFiles
    root_is_shared: bool = False
    drivers: list[FlintlockDriver] = field(default_factory=list)

    def driver(self) -> FlintlockDriver:
        self.drivers.append(Following(self.given.endpoint, self._place))
        return self.drivers[-1]

    def _place(self, gate: str) -> Place:
        port = gate.rpartition(":")[2]
        return Place(NAMESPACE, f"http://{self.given.here}:{port}", self.given.bridge)

    def spec(self, machine_id: str, gate: str = "127.0.0.1:9") -> MachineSpec:
        return MachineSpec(
            machine_id, Resources(1, 1024, 64), self.image, gate, f"credential-of-{machine_id}"
        )

    def create_and_die(self, spec: MachineSpec) -> None:
        assert self.given.endpoint.tls is None, "this test speaks in clear"
        said = pickle.dumps((self.given.endpoint.address, self._place(spec.gate), ROOM, spec))
        done = subprocess.run([sys.executable, "-c", CREATE_AND_DIE], input=said, check=False)
        assert done.returncode == -signal.SIGKILL

    def kill_vmm(self, machine_id: str) -> None:
        raise NotImplementedError("that is done on the host, not from here")

    def forget(self, machine_id: str) -> None:
        """Nothing is written down outside Flintlock."""

    def leftovers(self) -> list[str]:
        """Asked for in a process of its own: tests call this inside a running loop."""
        code = (
            "import asyncio, pickle, sys\n"
            "from firerunner.machines.flintlock.client import FlintlockClient\n"
            "endpoint, namespace = pickle.loads(sys.stdin.buffer.read())\n"
            "async def main():\n"
            "    client = FlintlockClient(endpoint)\n"
            "    print(*(vm.spec.id for vm in await client.list(namespace)), sep='\\n', end='')\n"
            "asyncio.run(main())\n"
        )
        said = pickle.dumps((self.given.endpoint, NAMESPACE))
        done = subprocess.run([sys.executable, "-c", code], input=said, stdout=subprocess.PIPE, check=True)
        return sorted(done.stdout.decode().split())


async def pushed(given: Given, guest: ImageFiles, directory: Path) -> ImageFiles:
    """The test guest, where the host can pull it from."""
    store = Store(directory)
    async with store.stage() as stage:
        files = stage / "image"
        files.mkdir()
        for name, path in (
            (ImageFile.KERNEL, guest.kernel),
            (ImageFile.INITRAMFS, guest.initramfs),
            (ImageFile.ROOT, guest.root),
        ):
            shutil.copyfile(path, files / name)
        image = store.commit(files, _manifest({name: file_facts(files / name) for name in ImageFile}))
    await push(store, image.manifest.digest, f"{given.registry}:firerunner-test-guest", given.way)
    return store.resolve(image.manifest.digest).files


def _manifest(files: dict[ImageFile, object]) -> Manifest:
    return Manifest.model_validate(
        {
            "name": "test-guest",
            "kernel_version": "test",
            "files": files,
            "runner": RunnerFacts(kind=RunnerKind.STAND_IN, version="none", sha256="0" * 64),
            "production": False,
            "recipe_digest": "0" * 64,
            "root_digest": "0" * 64,
            "built_at": datetime(2026, 1, 1, tzinfo=UTC),
        }
    )


@asynccontextmanager
async def real_flintlock(guest: ImageFiles, directory: Path) -> AsyncIterator[RealFlintlockKit]:
    """The caller's host, with nothing of ours on it afterwards."""
    given = Given.by_environment(os.environ)
    kit = RealFlintlockKit(given, await pushed(given, guest, directory))
    try:
        yield kit
    finally:
        driver = kit.driver()
        for seen in await driver.list():
            await driver.destroy(seen.machine_id)
        for each in kit.drivers:
            await each.aclose()
