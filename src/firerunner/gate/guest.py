"""What PID 1 says: `booted` at the start, `ended` at the end."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from firerunner.errors import StaleWrite
from firerunner.gate.credentials import bearer, prove
from firerunner.gate.desk import Desk
from firerunner.gate.events import GuestBooted, GuestBootedAgain, GuestEnded
from firerunner.gate.exchange import Exchange
from firerunner.gate.looking import is_held
from firerunner.gate.refusals import Kind, Refusal
from firerunner.gate.welcome import welcome
from firerunner.ledger.records import MachineRecord
from firerunner.ledger.states import COMING_MACHINES, JobState

FAILED: Final = "failed"
"""GitLab's word for a job that is to be looked into."""
_STAY: Final = b"stay\n"

_EXIT_CODE: Final = re.compile(rb"\s*exit_code=(-?[0-9]{1,9})?\s*")


async def booted(desk: Desk, exchange: Exchange, machine_id: str) -> None:
    """Give the guest its files, once.

    The credential is spent before the answer leaves: should the answer get lost, the second try is
    refused (410), the guest reboots, and control gives the job to another machine. The other order
    would let a restarted VM boot twice from one dirty disk.

    A fast guest may be here before the driver's `create` has returned, so a machine that is still
    `creating` goes through `booting`; control's own step to `booting` then finds it done.
    """
    credential = bearer(exchange)
    machine = await prove(desk.ledger, machine_id, credential)
    await exchange.body(desk.limits.guest_body_bytes, desk.limits.body_timeout_s)
    if machine.boots > 0:
        desk.tell(GuestBootedAgain(machine_id))
    if machine.state not in COMING_MACHINES or machine.boots > 0:
        raise _second_boot()
    facts = desk.facts_of(machine)  # what may fail comes before the boot is spent
    files = welcome(machine_id, credential, facts, int(desk.clock()))
    try:
        await desk.ledger.boot(machine_id)
    except StaleWrite:
        # It has been given up in the meantime, or a second guest was quicker.
        raise _second_boot() from None
    desk.tell(GuestBooted(machine_id))
    await exchange.answer(
        200,
        [(b"content-type", b"application/x-tar"), (b"content-length", str(len(files)).encode())],
        files,
    )


async def ended(desk: Desk, exchange: Exchange, machine_id: str, drop: Callable[[str], None]) -> None:
    """Note that the guest is about to reboot, or has it stay for a look: then the answer is 200, not 204.
    Repeating it does no harm."""
    machine = await prove(desk.ledger, machine_id, bearer(exchange))
    said = await exchange.body(desk.limits.guest_body_bytes, desk.limits.body_timeout_s)
    found = _EXIT_CODE.fullmatch(said)
    if found is None:
        raise Refusal(400, Kind.MALFORMED, "the body must be exit_code=N")
    if machine.boots == 0:
        raise Refusal(403, Kind.BEFORE_BOOT, "it has not said booted")
    if machine.ended_reported_at is None:
        exit_code = int(found[1]) if found[1] else None
        stays = await _stays(desk, machine)  # before its end is known, which has it retired
        await desk.ledger.note_ended(machine_id, exit_code)
        drop(machine_id)
        if stays:
            await exchange.answer(200, [(b"content-length", str(len(_STAY)).encode())], _STAY)
            return
        desk.tell(GuestEnded(machine_id, exit_code))
    elif is_held(machine, desk.clock()):  # the first answer got lost
        await exchange.answer(200, [(b"content-length", str(len(_STAY)).encode())], _STAY)
        return
    await exchange.answer(204)


async def _stays(desk: Desk, machine: MachineRecord) -> bool:
    """Whether a failed job's machine is kept, as its pool wants; decided once, before the guest goes."""
    job = await desk.ledger.job_of_machine(machine.machine_id)
    if job is None or job.state is not JobState.ENDED or job.gitlab_status != FAILED:
        return False
    try:
        facts = desk.facts_of(machine)
    except Refusal:  # its pool or host is not configured any more
        return False
    if not facts.hold_s:
        return False
    until = await desk.ledger.hold(machine.machine_id, facts.hold_s, facts.hold_limit)
    return until is not None and until > desk.clock()


def _second_boot() -> Refusal:
    return Refusal(410, Kind.SECOND_BOOT, "this machine has booted before, or is not wanted any more")
