"""A look at a held machine is written down before it is had, and is not had of one that is not held."""

from __future__ import annotations

import pytest
from web_given import A, B, Given, said

from firerunner.gate.looking import Seen
from firerunner.ledger import MachineState

pytestmark = pytest.mark.anyio

LOOK = {"reason": "why", "script": "cat /builds/out"}


async def hold(given: Given) -> None:
    await given.fill()
    for state in (MachineState.BOOTING, MachineState.WAITING, MachineState.BUSY):
        await given.ledger.move_machine(A, state)
    assert await given.ledger.hold(A, 60.0, 1) == 1060.0


async def test_a_look_is_written_down_with_its_script(given: Given) -> None:
    await hold(given)
    given.seen = Seen(3, b"canary \xff\n")

    answer = await given.ask(f"/api/v1/machines/{A}/look", "o" * 32, method="POST", json=LOOK)

    entries = await given.ledger.journal(limit=1000)
    (row,) = [entry for entry in entries if entry.event == "look"]
    assert answer.json() == {"exit_code": 3, "output": "canary \ufffd\n", "journal": row.seq}
    assert given.looked == [(A, "cat /builds/out")]
    assert (row.subject, row.detail["script"], row.detail["reason"]) == (A, "cat /builds/out", "why")
    assert not any("canary \ufffd" in str(entry.detail) for entry in entries)


@pytest.mark.parametrize(("machine", "status"), [(B, 409), ("fr-ffffffffffff", 404)])
async def test_of_a_machine_that_is_not_held_nothing_is_seen(given: Given, machine: str, status: int) -> None:
    await given.fill()

    look = await given.ask(f"/api/v1/machines/{machine}/look", "o" * 32, method="POST", json=LOOK)
    release = await given.act(f"machines/{machine}/release")

    assert (look.status_code, release.status_code) == (status, status)
    assert given.looked == []


async def test_who_may_only_read_has_no_look(given: Given) -> None:
    await hold(given)

    answer = await given.ask(f"/api/v1/machines/{A}/look", "r" * 32, method="POST", json=LOOK)

    assert (answer.status_code, given.looked) == (403, [])


async def test_a_hold_is_released_once(given: Given) -> None:
    await hold(given)

    first, second = await given.act(f"machines/{A}/release"), await given.act(f"machines/{A}/release")

    assert (first.status_code, second.status_code) == (202, 409)
    assert "is not held" in said(second)
