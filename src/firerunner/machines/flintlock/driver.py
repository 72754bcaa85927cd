"""The `flintlock` driver: Firecracker microVMs on one host, made by the flintlockd there."""

from __future__ import annotations

import asyncio
import secrets
import weakref
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from firerunner.errors import BootFailed, HostUnreachable, MachineError, SpecRefused
from firerunner.machines.flintlock import request
from firerunner.machines.flintlock.client import FlintlockClient
from firerunner.machines.flintlock.proto import types_pb2
from firerunner.machines.flintlock.request import Place, machine_of
from firerunner.machines.problems import Problem
from firerunner.machines.spec import MACHINE_ID, Egress, ImageFiles, MachineSpec, Resources, Sighting, Started

MicroVM = types_pb2.MicroVM
State = types_pb2.MicroVMStatus
Sightings = list[Sighting]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited, in seconds. Flintlock itself would try for 22 minutes."""

    poll_s: float = 0.5
    start_s: float = 110.0
    """Until the VMM runs; a pull of the image is part of it."""
    gone_s: float = 60.0
    """Until a deleted microVM is gone; after failures it may wait out a back-off first."""


class FlintlockDriver:
    """Implements `machines.driver.Driver` on one host.

    A microVM's name is that of one attempt, because names may repeat there: after a lost reply it is looked
    for and adopted. Only what has such a name in our namespace is ever touched.
    """

    name = "flintlock"
    look_every_s = 3.0

    def __init__(
        self, client: FlintlockClient, place: Place, capacity: Resources, *, patience: Patience | None = None
    ) -> None:
        """Closes the client at its own end. `capacity`: what machines may use in all."""
        self._client = client
        self._place = place
        self._capacity = capacity
        self._patience = patience or Patience()
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def create(self, spec: MachineSpec) -> Started:
        """Make the machine and return once Flintlock says that its VMM was started.

        Raises `SpecRefused`, `BootFailed`, `HostUnusable`; after `HostUnreachable` something may be there,
        which the next `create` adopts and `destroy` removes.
        """
        _check(spec.machine_id)
        async with self._turn(spec.machine_id):
            there = [vm for vm in await self._of(spec.machine_id) if vm.status.state != State.DELETING]
            made = there[0] if there else await self._make(spec)
            for other in there[1:]:
                await self._client.delete(other.spec.uid)
            await self._until_started(made.spec.uid, spec.machine_id)
        return Started.COLD

    async def destroy(self, machine_id: str) -> None:
        """Delete all attempts and return when they are gone."""
        _check(machine_id)
        async with self._turn(machine_id):
            for vm in await self._of(machine_id):
                if vm.status.state != State.DELETING:
                    await self._client.delete(vm.spec.uid)
            left: list[MicroVM] = []

            async def gone() -> bool:
                left[:] = await self._of(machine_id)
                return not left

            if not await self._poll(gone, self._patience.gone_s):
                uids = ", ".join(vm.spec.uid for vm in left)
                raise MachineError(
                    f"Flintlock at {self._client.address} has not removed {machine_id} ({uids}) within "
                    f"{self._patience.gone_s:.0f} s",
                    remedy="See the journal of flintlockd on that host; it is tried again",
                )

    async def list(self) -> Sightings:
        """Every machine of which an attempt is in our namespace."""
        seen: dict[str, list[MicroVM]] = {}
        for vm in await self._client.list(self._place.namespace):
            machine_id = machine_of(vm.spec.id)
            if machine_id is not None:
                seen.setdefault(machine_id, []).append(vm)
        return [_sight(machine_id, vms) for machine_id, vms in sorted(seen.items())]

    async def strangers(self) -> Sequence[str]:
        """`name (uid)` of each microVM in our namespace that is not of our making. They are left alone."""
        return sorted(
            f"{vm.spec.id} ({vm.spec.uid})"
            for vm in await self._client.list(self._place.namespace)
            if machine_of(vm.spec.id) is None
        )

    async def console(self, machine_id: str, max_bytes: int = 65536) -> bytes:
        """Flintlock has no way to read one: it stays on the host, in `STATE/vm/NAMESPACE/NAME/UID`."""
        _check(machine_id)
        return b""

    async def capacity(self) -> Resources:
        """What the operator says; Flintlock tells nothing."""
        return self._capacity

    def refusal(
        self, resources: Resources, egress: tuple[Egress, ...], image: ImageFiles | None = None
    ) -> str | None:
        """A size that Flintlock would not make or never boot, or an image that is in no registry. Egress is
        the business of the host's network."""
        return request.refused_size(resources) or (request.refused_image(image) if image else None)

    async def prepare(self, image: ImageFiles) -> str:
        """How guests run. Raises `SpecRefused` for an image that the host could not pull."""
        refused = request.refused_image(image)
        if refused is not None:
            raise SpecRefused(refused)
        return f"Firecracker, by Flintlock at {self._client.address}"

    async def check(self) -> tuple[Problem, ...]:
        """Whether Flintlock answers there and lets us in."""
        try:
            await self._client.list(self._place.namespace)
        except MachineError as error:
            return (Problem(error.message, error.remedy),)
        return ()

    def guest_gate_url(self, machine_id: str) -> str:
        """The gate as guests on that host reach it."""
        return request.guest_gate_url(self._place, machine_id)

    def hosts_entries(self, egress: tuple[Egress, ...]) -> Sequence[tuple[str, str]]:
        """None: guests resolve names in their own network."""
        return []

    async def aclose(self) -> None:
        """Close the connection. Machines go on running."""
        await self._client.aclose()

    def _turn(self, machine_id: str) -> asyncio.Lock:
        return self._turns.setdefault(machine_id, asyncio.Lock())

    async def _of(self, machine_id: str) -> Sequence[MicroVM]:
        found = await self._client.list(self._place.namespace)
        return [vm for vm in found if machine_of(vm.spec.id) == machine_id]

    async def _make(self, spec: MachineSpec) -> MicroVM:
        name = request.attempt_name(spec.machine_id, secrets.token_hex(3))
        asked = request.microvm_spec(spec, self._place, name)
        try:
            return await self._client.create(asked)
        except HostUnreachable:
            found = await self._client.list(self._place.namespace, name)
            if not found:
                raise
            return found[0]

    async def _until_started(self, uid: str, machine_id: str) -> None:
        last: MicroVM | None = None

        async def decided() -> bool:
            nonlocal last
            last = await self._client.get(uid)
            return last is None or last.status.state != State.PENDING or last.status.retry > 0

        in_time = await self._poll(decided, self._patience.start_s)
        if last is not None and last.status.state == State.CREATED:
            return
        reason = _why_not(last, None if in_time else self._patience.start_s)
        if last is not None:
            await self._client.delete(uid)
        raise BootFailed(
            f"Flintlock at {self._client.address} did not start {machine_id} ({uid}): {reason}",
            remedy="See the journal of flintlockd on that host, and firecracker.log of the microVM",
        )

    async def _poll(self, look: Callable[[], Awaitable[bool]], timeout_s: float) -> bool:
        """Whether `look` gave True in time."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + timeout_s
        while not await look():
            if loop.time() > give_up_at:
                return False
            await asyncio.sleep(self._patience.poll_s)
        return True


def _check(machine_id: str) -> None:
    if not MACHINE_ID.fullmatch(machine_id):
        raise MachineError(f"{machine_id!r} is not a machine id", remedy="It looks like fr-0123456789ab.")


def _sight(machine_id: str, vms: Sequence[MicroVM]) -> Sighting:
    states = {vm.status.state for vm in vms}
    if states & {State.PENDING, State.CREATED}:
        return Sighting(machine_id, alive=True)
    if State.FAILED in states:
        return Sighting(machine_id, alive=False, detail="Flintlock gave it up")
    return Sighting(machine_id, alive=False, detail="being deleted")


def _why_not(vm: MicroVM | None, waited_s: float | None) -> str:
    if vm is None:
        return "it was deleted meanwhile"
    if vm.status.state == State.FAILED:
        return "Flintlock gave it up"
    if vm.status.state == State.DELETING:
        return "it is being deleted"
    if vm.status.retry > 0:
        return "its first start failed"
    return f"not within {waited_s:.0f} s (a slow pull of the image?)"
