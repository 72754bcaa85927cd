"""The machines of one state directory, made, found and unmade by blocking calls.

A machine is a directory, a keeper process, its QEMU, and control groups; nothing else. All of it is
found again from the directory's path alone, so no knowledge is kept in this process, and a new
controller adopts what an old one has left by doing nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from firerunner.errors import MachineError
from firerunner.machines.qemu import console, processes, room, statefile
from firerunner.machines.qemu.cgroups import Cgroups, Limits
from firerunner.machines.qemu.checks import find_program
from firerunner.machines.qemu.disks import Disks
from firerunner.machines.qemu.host import Host
from firerunner.machines.qemu.identity import drops_privileges
from firerunner.machines.qemu.order import Saved
from firerunner.machines.qemu.ordering import check_image, make_order, memory_limit_mib
from firerunner.machines.qemu.processes import Claim, Role
from firerunner.machines.qemu.room import Allowance
from firerunner.machines.qemu.starting import ForkServer, program
from firerunner.machines.qemu.statefile import Phase
from firerunner.machines.spec import MACHINE_ID, MachineSpec, Resources, Sighting, Started

END_TIMEOUT_S = 10.0

HAS_RUN = (Phase.RUNNING, Phase.ENDED)


class LocalMachines:
    """All calls may come from several threads; those for one machine take turns."""

    def __init__(
        self,
        state_dir: Path,
        host: Host,
        fork_server: ForkServer,
        qemu: str,
        allowance: Allowance,
        *,
        disk_dir: Path | None,
        keep_free_mib: int,
        place: str = "machines",
    ) -> None:
        """`place`: where below `state_dir` their directories are."""
        self.directory = (state_dir / place).resolve()
        tag = hashlib.sha256(str(self.directory).encode()).hexdigest()[:8]
        self.cgroups = Cgroups(tag)
        self._host = host
        self._fork_server = fork_server
        self._qemu = qemu
        self._allowance = allowance
        self._disks = Disks(self.directory, disk_dir, tag, keep_free_mib)
        self._turns = [threading.Lock() for _ in range(64)]
        self._making: dict[str, Resources] = {}
        self._making_lock = threading.Lock()

    def capacity(self) -> Resources:
        """What machines may use in all. Raises `HostUnusable` while no disk should be made."""
        self._disks.check()
        return room.measure_capacity(self._disks, self._allowance)

    def create(self, spec: MachineSpec, saved: Saved | None = None) -> Started:
        """Make the machine, unless it was made before: then whether it still lives is `list`'s to say.

        `saved`: what to restore it from, or to save it into. Raises `NoRoom`, `HostUnusable`, `BootFailed`;
        then nothing of the machine is left.
        """
        directory = self._directory_of(spec.machine_id)
        with self._turn(spec.machine_id):
            state = statefile.read(directory)
            if state is None or state["phase"] not in HAS_RUN:
                self._remove(spec.machine_id)
                with self._room_for(spec):
                    try:
                        self._make(spec, directory, saved)
                    except BaseException:
                        self._remove(spec.machine_id)
                        raise
                state = statefile.read(directory) or {}
            return Started.RESTORED if state.get("start") == Started.RESTORED else Started.COLD

    def destroy(self, machine_id: str) -> None:
        """Remove all of the machine. Raises `MachineError` if something of it does not go."""
        self._directory_of(machine_id)
        with self._turn(machine_id):
            self._remove(machine_id)

    def read_disk(self, machine_id: str, content: int) -> None:
        """Have in this file what is on the machine's disk. Raises OSError."""
        self._disks.read(machine_id, content)

    def interrupt(self, machine_id: str) -> None:
        """End the machine's processes while another call makes it, which raises then and cleans up."""
        claims = [each for each in processes.scan(self.directory) if each.machine_id == machine_id]
        processes.end(claims, self.directory, END_TIMEOUT_S)

    def list(self) -> list[Sighting]:
        """Every machine of which a process, a directory or a control group is there."""
        claims: dict[str, list[Claim]] = {}
        for claim in processes.scan(self.directory):
            claims.setdefault(claim.machine_id, []).append(claim)
        known = self._directories() | claims.keys() | self.cgroups.machine_ids() | self._disks.machine_ids()
        return [
            sight(
                machine_id,
                {claim.role for claim in claims.get(machine_id, ())},
                statefile.read(self.directory / machine_id),
                statefile.boot_id(),
            )
            for machine_id in sorted(known)
        ]

    def console(self, machine_id: str, max_bytes: int) -> bytes:
        """The last bytes of the console."""
        return console.read_tail(self._directory_of(machine_id), max_bytes)

    def _directories(self) -> set[str]:
        with contextlib.suppress(FileNotFoundError):
            return {path.name for path in self.directory.iterdir() if MACHINE_ID.fullmatch(path.name)}
        return set()

    def _directory_of(self, machine_id: str) -> Path:
        if not MACHINE_ID.fullmatch(machine_id):
            raise MachineError(f"{machine_id!r} is not a machine id", remedy="It looks like fr-0123456789ab.")
        return self.directory / machine_id

    def _turn(self, machine_id: str) -> threading.Lock:
        return self._turns[zlib.crc32(machine_id.encode()) % len(self._turns)]

    @contextlib.contextmanager
    def _room_for(self, spec: MachineSpec) -> Iterator[None]:
        with self._making_lock:
            living = {
                sighting.machine_id: self._resources_of(sighting.machine_id)
                for sighting in self.list()
                if sighting.alive
            }
            taken = living | self._making
            room.check_room(spec.resources, taken.values(), self.capacity())
            self._making[spec.machine_id] = spec.resources
        try:
            yield
        finally:
            with self._making_lock:
                del self._making[spec.machine_id]

    def _resources_of(self, machine_id: str) -> Resources:
        state = statefile.read(self.directory / machine_id) or {}
        return Resources(*state.get("resources", (0, 0, 0)))

    def _make(self, spec: MachineSpec, directory: Path, saved: Saved | None) -> None:
        check_image(spec.image, other_user=drops_privileges())
        qemu = program(self._qemu)
        accelerator = self._host.accelerator(qemu, spec.image)
        limits = Limits(memory_limit_mib(spec, accelerator), spec.resources.vcpu + 1)
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.mkdir(mode=0o700)
        self._disks.prepare()
        ordered = make_order(
            spec,
            directory,
            disk=self._disks.path(spec.machine_id),
            qemu=qemu,
            accelerator=accelerator,
            tsc_khz=self._host.tsc_khz(),
            cgroup_procs=self.cgroups.make(spec.machine_id, limits),
            nft=find_program("nft"),
            saved=saved,
        )
        if saved is not None and saved.restore:
            self._disks.copy(spec.machine_id, saved.disk)
        else:
            self._disks.make(spec.machine_id, spec.resources.disk_mib)
        self._fork_server.give_order(ordered)

    def _remove(self, machine_id: str) -> None:
        """Processes first, then control groups, then the directory: it names the rest."""
        directory = self.directory / machine_id
        state = statefile.read(directory) or {}
        ended = [(each["pid"], each["start"]) for each in (state.get("vmm"), state.get("keeper")) if each]
        for _attempt in range(5):
            claims = [each for each in processes.scan(self.directory) if each.machine_id == machine_id]
            if not claims:
                break
            stuck = processes.end(claims, self.directory, END_TIMEOUT_S)
            if stuck:
                raise MachineError(
                    f"{machine_id}: process {stuck[0].pid} ({stuck[0].role}) does not end after SIGKILL",
                    remedy="It hangs in the kernel, often on a broken disk; see dmesg. It is tried again.",
                )
            ended += [(claim.pid, claim.start_ticks) for claim in claims]
        for pid, start_ticks in ended:
            processes.reap(pid, start_ticks)
        if not self.cgroups.remove(machine_id):
            raise MachineError(
                f"{machine_id}: its control group is still in use", remedy="It is tried again."
            )
        self._disks.remove(machine_id)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(directory)


def sight(machine_id: str, roles: set[Role], state: dict[str, Any] | None, boot_id: str) -> Sighting:
    """What is to be said of a machine from its living processes and its state file."""
    if state is None:
        alive = bool(roles)
        return Sighting(machine_id, alive, "its state file is missing" if alive else "half made")
    over = state["phase"] in (Phase.ENDED, Phase.FAILED)
    if Role.VMM in roles or (Role.KEEPER in roles and not over):
        return Sighting(machine_id, True)
    if over:
        return Sighting(machine_id, False, state["detail"])
    if state["boot_id"] != boot_id:
        return Sighting(machine_id, False, "the computer was restarted")
    return Sighting(machine_id, False, "its keeper was killed")
