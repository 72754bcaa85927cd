"""The `qemu` driver: the embedded default, real virtual machines on this computer."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from firerunner.errors import HostUnusable, MachineError
from firerunner.machines.problems import Problem
from firerunner.machines.qemu import checks
from firerunner.machines.qemu import egress as links
from firerunner.machines.qemu.command import Accelerator
from firerunner.machines.qemu.host import Host
from firerunner.machines.qemu.identity import drops_privileges
from firerunner.machines.qemu.local import LocalMachines
from firerunner.machines.qemu.restoring import RestoringMachines
from firerunner.machines.qemu.room import Allowance
from firerunner.machines.qemu.starting import ForkServer, program
from firerunner.machines.qemu.uplink import uplink_of
from firerunner.machines.spec import Egress, ImageFiles, MachineSpec, Resources, Sighting, Started

T = TypeVar("T")

HostsEntries = list[tuple[str, str]]
"""(host, address) lines for a guest's hosts file."""

Sightings = list[Sighting]
Strings = list[str]

THREADS = 8
"""Each call blocks one; starting a machine takes a few tenths of a second."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the driver can do on this computer, for `doctor` and the operator's pages."""

    accelerator: Accelerator | None
    """None until it was needed for a first image."""
    limiting_controllers: tuple[str, ...]
    """Control group controllers that limit machines from outside; empty if the host offers none."""
    own_user_per_machine: bool
    saves_state: bool = True
    """Machines can be restored from saved states of their images."""


class QemuDriver:
    """Implements `machines.driver.Driver`. Two drivers with different `state_dir` do not see each other."""

    name = "qemu"
    look_every_s = 1.0

    def __init__(
        self,
        state_dir: Path,
        *,
        vcpu: int | None = None,
        memory_mib: int | None = None,
        disk_mib: int | None = None,
        disk_dir: Path | None = None,
        keep_free_mib: int = 0,
        qemu: str = "qemu-system-x86_64",
        accelerator: str | None = None,
    ) -> None:
        """`vcpu`, `memory_mib`, `disk_mib`: what machines may use in all; None measures. `disk_dir`: where
        their disks are; None: with them. `accelerator`: `kvm` or `tcg` without a test; None finds out."""
        self._qemu = qemu
        self._state_dir = state_dir
        self._host = Host(state_dir, accelerator)
        self._fork_server = ForkServer(state_dir)
        self._machines, templates = (
            LocalMachines(
                state_dir,
                self._host,
                self._fork_server,
                qemu,
                Allowance(vcpu, memory_mib, disk_mib),
                disk_dir=disk_dir,
                keep_free_mib=keep_free_mib,
                place=place,
            )
            for place in ("machines", "templates")
        )
        self._restoring = RestoringMachines(state_dir, self._machines, templates, self._host, qemu)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="qemu-driver")

    async def create(self, spec: MachineSpec) -> Started:
        """Start the machine and return once QEMU answers, and the guest if it was restored.

        A machine that was made before is a success, also when it has ended since: a machine lives
        once, and `list` tells its end. For another try, `destroy` first.
        """
        return await self._run(lambda: self._restoring.create(spec))

    async def destroy(self, machine_id: str) -> None:
        """End the machine and return when nothing of it is left."""
        await self._run(lambda: self._restoring.destroy(machine_id))

    async def list(self) -> Sightings:
        """Every machine of this state directory of which anything is there."""
        return await self._run(self._machines.list)

    async def console(self, machine_id: str, max_bytes: int = 65536) -> bytes:
        """The last bytes of the machine's serial console; 512 KiB at least are kept."""
        return await self._run(lambda: self._machines.console(machine_id, max_bytes))

    async def capacity(self) -> Resources:
        """What machines may use in all: the operator's amounts, or a share of this computer.

        Raises `HostUnusable` while the disks' file system is fuller than it should get.
        """
        return await self._run(self._machines.capacity)

    async def accelerator(self, image: ImageFiles | None = None) -> Accelerator | None:
        """How guests run, and why. With an image it is found out, which may take ten seconds, once
        for each boot of this computer; without, what is known so far."""
        if image is None:
            return self._host.last
        qemu = program(self._qemu)
        return await self._run(lambda: self._host.accelerator(qemu, image))

    async def prepare(self, image: ImageFiles) -> str:
        """Find out now what the first `create` of this image would have to wait for; how guests run."""
        found = await self.accelerator(image)
        await self._run(self._host.tsc_khz)
        return "not known" if found is None else f"{found.kind}: {found.reason}"

    async def save_state(self, image: ImageFiles, resources: Resources) -> None:
        """Have a saved state for such machines, if it can be; the log says why if not. It takes as long as a
        boot; `create` does not wait for it."""
        await self._run(lambda: self._restoring.save(image, resources))

    async def prune_states(self, wanted: Iterable[tuple[ImageFiles, Resources]]) -> Strings:
        """Remove the saved states that no such machine would be restored from."""
        kept = list(wanted)
        return await self._run(lambda: self._restoring.prune(kept))

    async def check(self) -> tuple[Problem, ...]:
        """What is missing for machines to be made here, each with its remedy."""
        return await self._run(lambda: tuple(checks.find_problems(self._qemu, self._state_dir)))

    def abilities(self) -> Abilities:
        """What the driver can do on this computer."""
        return Abilities(self._host.last, self._machines.cgroups.offered, drops_privileges())

    def refusal(
        self, resources: Resources, egress: tuple[Egress, ...], image: ImageFiles | None = None
    ) -> str | None:
        """An egress that cannot be told apart inside a machine, or that needs nft where there is none."""
        try:
            links.listeners("127.0.0.1:1", egress)
            uplink_of(egress, (), checks.find_program("nft"))
        except MachineError as error:
            return str(error)
        return None

    def guest_gate_url(self, machine_id: str) -> str:
        """The gate's URL as the machine sees it."""
        return links.guest_gate_url(machine_id)

    def hosts_entries(self, egress: tuple[Egress, ...]) -> HostsEntries:
        """By these names and addresses a guest finds the pool's egress."""
        return links.hosts_entries(egress)

    async def aclose(self) -> None:
        """Wait for calls under way; a state that is being saved is given up. Machines go on running."""
        for close in (self._restoring.close, self._threads.shutdown, self._fork_server.close):
            await asyncio.to_thread(close)

    async def _run(self, call: Callable[[], T]) -> T:
        """Raises HostUnusable also for what this computer refuses, as a full or broken disk does."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except (OSError, subprocess.SubprocessError) as error:
            raise HostUnusable(f"this computer refuses: {error}", remedy=checks.CHECK_REMEDY) from error
