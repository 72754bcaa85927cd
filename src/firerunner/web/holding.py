"""The routes for machines that are held: a look at one, and its release, both written into the journal."""

from __future__ import annotations

from typing import Protocol

from fastapi import APIRouter

from firerunner.errors import StaleWrite
from firerunner.gate.looking import is_held
from firerunner.web.access import Caller
from firerunner.web.guard import By
from firerunner.web.models import Done, Script, Seen, Why
from firerunner.web.operations import Operations
from firerunner.web.reading import MachineId
from firerunner.web.refusals import Refusal

RELEASE = "release"
LOOK = "look"


class Audited(Protocol):
    """Writes the row in the journal. Raises LedgerError, and then nothing is done."""

    async def __call__(self, act: str, target: str, by: Caller, reason: str, **more: str) -> Done: ...


def add_holding(router: APIRouter, operations: Operations, audited: Audited) -> None:
    """Add the routes."""
    ledger = operations.ledger

    async def check(machine_id: str) -> None:
        machine = await ledger.machine(machine_id)
        if machine is None:
            raise Refusal(404, "there is no machine of that id (any more)")
        if not is_held(machine, ledger.clock()):
            raise _not_held()

    @router.post("/machines/{machine_id}/release", status_code=202)
    async def release(machine_id: MachineId, why: Why, by: By) -> Done:
        """End the hold of a machine that is kept for a look; it goes within a second."""
        await check(machine_id)
        done = await audited(RELEASE, machine_id, by, why.reason)
        try:
            await ledger.release_hold(machine_id)
        except StaleWrite as error:
            raise _not_held() from error
        return done

    @router.post("/machines/{machine_id}/look")
    async def look(machine_id: MachineId, asked: Script, by: By) -> Seen:
        """Run a script on a held machine and wait for what it prints, a minute at most. The secrets of its
        job are there; what is printed may hold them, and is kept nowhere."""
        await check(machine_id)
        done = await audited(LOOK, machine_id, by, asked.reason, script=asked.script)
        seen = await operations.look(machine_id, asked.script)
        return Seen(
            exit_code=seen.exit_code if seen else None,
            output=seen.output.decode("utf-8", "replace") if seen else "",
            journal=done.journal,
        )


def _not_held() -> Refusal:
    return Refusal(409, "this machine is not held, or not any more: see `firerunner hold list`")
