"""The ledger's calls about machines."""

from __future__ import annotations

from collections.abc import Collection
from typing import Unpack

from firerunner.ledger import (
    holds,
    journal,
    machines,
)
from firerunner.ledger.handle import Handle
from firerunner.ledger.records import (
    DEFAULT_GITLAB,
    MachineFacts,
    MachineRecord,
)
from firerunner.ledger.states import LIVE_MACHINES, MachineState
from firerunner.ledger.transaction import Transaction
from firerunner.machines.spec import Resources


class MachineCalls(Handle):
    """From a reservation to gone."""

    async def reserve(
        self,
        machine_id: str,
        pool: str,
        host: str,
        resources: Resources,
        image_digest: str,
        *,
        gitlab: str = DEFAULT_GITLAB,
        asking: bool = False,
    ) -> MachineRecord:
        """A new machine in `reserved`, holding room on `host`; `asking`: its ask is about to leave, as after
        `begin_ask`."""
        return await self._write(
            lambda tx: machines.reserve(
                tx,
                machine_id,
                pool=pool,
                host=host,
                resources=resources,
                image_digest=image_digest,
                gitlab=gitlab,
                asking=asking,
            )
        )

    async def forget_reservation(self, machine_id: str) -> None:
        """Delete a reserved machine whose id GitLab has never seen. `StaleWrite` if it may have."""
        await self._write(lambda tx: machines.forget(tx, machine_id))

    async def machine(self, machine_id: str) -> MachineRecord | None:
        return await self._read(lambda tx: machines.find(tx, machine_id))

    async def machines(self, states: Collection[MachineState] = LIVE_MACHINES) -> list[MachineRecord]:
        """Oldest first."""
        return await self._read(lambda tx: machines.select(tx, states))

    async def machines_page(
        self, states: Collection[MachineState] | None, *, after: str = "", limit: int
    ) -> list[MachineRecord]:
        """By id, those above `after`; of all states if None are given."""
        return await self._read(lambda tx: machines.page(tx, states, after, limit))

    async def move_machine(
        self,
        machine_id: str,
        to: MachineState,
        *,
        reason: str = "",
        expect: MachineState | Collection[MachineState] | None = None,
        **facts: Unpack[MachineFacts],
    ) -> MachineRecord:
        """Change a machine's state, and the facts that came with it. `gone` gives its room back.

        Raises `IllegalTransition` if the table has no such step, `StaleWrite` if it is not in `expect`.
        """
        return await self._write(
            lambda tx: machines.move(tx, machine_id, to, reason=reason, expect=expect, facts=dict(facts))
        )

    async def set_credential(self, machine_id: str, sha256hex: str) -> None:
        await self._write(lambda tx: machines.set_credential(tx, machine_id, sha256hex))

    async def release_room(self, machine_id: str) -> MachineRecord:
        """The machine is gone from its host; its row lives on until its record in GitLab is gone too."""
        return await self._write(lambda tx: machines.release_room(tx, machine_id))

    async def boot(self, machine_id: str) -> MachineRecord:
        """The guest's only `booted`: its boot is spent, and it is `waiting`, both or neither.

        `StaleWrite` if it has booted before or is not coming (any more).
        """
        return await self._write(lambda tx: machines.boot(tx, machine_id))

    async def note_ended(self, machine_id: str, exit_code: int | None) -> MachineRecord:
        """The guest said `ended`; only the first time counts."""
        return await self._write(lambda tx: machines.note_ended(tx, machine_id, exit_code))

    async def hold(self, machine_id: str, seconds: float, limit: int) -> float | None:
        """Keep a machine whose job has failed for so long, unless `limit` of its pool are kept; until when
        (Unix seconds), or None. A second call changes nothing."""
        return await self._write(lambda tx: holds.hold(tx, machine_id, seconds, limit))

    async def release_hold(self, machine_id: str) -> None:
        """End its hold now. `StaleWrite` if it is not held."""
        await self._write(lambda tx: holds.release(tx, machine_id))

    async def manager_removed(self, machine_id: str) -> None:
        """GitLab has no runner manager record of this machine any more."""
        await self._write(lambda tx: machines.manager_removed(tx, machine_id))

    async def begin_launch(
        self, machine_id: str, credential_hash: str, baked: str
    ) -> tuple[MachineRecord, int]:
        """Machine `reserved → creating` with its room, and its `create` intended: both or neither.

        The number is for `done`. `StaleWrite` if the machine is not reserved any more.
        """
        facts: MachineFacts = {"credential_hash": credential_hash, "baked": baked, "room_held": True}

        async def both(tx: Transaction) -> tuple[MachineRecord, int]:
            expected = MachineState.RESERVED
            machine = await machines.move(
                tx, machine_id, MachineState.CREATING, reason="", expect=expected, facts=dict(facts)
            )
            return machine, await journal.intend(tx, "machine", machine_id, "create", {"host": machine.host})

        return await self._write(both)
