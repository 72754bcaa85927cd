"""Machines in the ledger: reservations, transitions, asks, boots."""

from __future__ import annotations

import asyncio

import pytest
from ledger_given import SMALL, A, B, machine_in

from firerunner.errors import IllegalTransition, StaleWrite
from firerunner.ledger import Ledger, MachineState
from firerunner.ledger.states import MACHINE_TRANSITIONS
from firerunner.machines.spec import Resources

pytestmark = pytest.mark.anyio


async def test_a_reservation_holds_room_and_is_journalled(ledger: Ledger) -> None:
    record = await ledger.reserve(A, "demo", "local", SMALL, "sha256:1")

    assert await ledger.machine(A) == record
    assert (record.state, record.room_held, record.resources) == (MachineState.RESERVED, True, SMALL)
    [entry] = await ledger.journal()
    assert (entry.subject, entry.event, entry.from_state, entry.to_state) == (A, "reserved", None, "reserved")


async def test_an_id_is_used_once(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.GONE)

    with pytest.raises(StaleWrite, match="in use"):
        await ledger.reserve(A, "demo", "local", SMALL, "sha256:1")


async def test_an_unknown_machine_is_none_to_readers_and_stale_to_writers(ledger: Ledger) -> None:
    assert await ledger.machine(A) is None
    with pytest.raises(StaleWrite, match=f"no machine {A}"):
        await ledger.move_machine(A, MachineState.CREATING)


async def test_each_transition_is_one_journal_row_with_its_reason_and_time(ledger: Ledger, clock) -> None:
    await machine_in(ledger, MachineState.CREATING)
    before = (await ledger.journal())[-1].seq
    clock.now = 1234.5

    record = await ledger.move_machine(
        A, MachineState.FAILED, reason="VMM killed", expect=MachineState.CREATING
    )

    assert (record.state, record.state_since, record.reason) == (MachineState.FAILED, 1234.5, "VMM killed")
    assert await ledger.machine(A) == record
    [entry] = await ledger.journal(after=before)
    assert (entry.at, entry.from_state, entry.to_state) == (1234.5, "creating", "failed")
    assert entry.detail == {"reason": "VMM killed"}


async def test_facts_are_written_with_the_state(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.CREATING)

    await ledger.move_machine(A, MachineState.BOOTING, vmm_started_at=1001.0, credential_hash="ab" * 32)

    record = await ledger.machine(A)
    assert (record.vmm_started_at, record.credential_hash) == (1001.0, "ab" * 32)
    assert "ab" * 32 not in str(await ledger.journal())


@pytest.mark.parametrize("state", [s for s in MachineState if s not in {"failed", "busy"}])
async def test_only_what_the_table_says_is_written(ledger: Ledger, state: MachineState) -> None:
    await machine_in(ledger, state)
    history = await ledger.journal()
    illegal = set(MachineState) - MACHINE_TRANSITIONS[state]

    for to in sorted(illegal):
        with pytest.raises(IllegalTransition, match=f"machine {A} cannot go from {state} to {to}"):
            await ledger.move_machine(A, to)

    assert (await ledger.machine(A)).state is state
    assert await ledger.journal() == history


async def test_a_refusal_names_the_legal_steps(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.WAITING)

    with pytest.raises(IllegalTransition, match="it may go to busy, failed, retiring"):
        await ledger.move_machine(A, MachineState.CREATING)


async def test_a_writer_with_an_old_view_is_refused(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.BOOTING)

    with pytest.raises(StaleWrite, match="is booting, not busy, waiting as expected"):
        await ledger.move_machine(A, MachineState.RETIRING, expect={MachineState.WAITING, MachineState.BUSY})

    assert (await ledger.machine(A)).state is MachineState.BOOTING


async def test_gone_gives_the_room_back_and_leaves_the_live_list(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.RETIRING)
    assert [m.room_held for m in await ledger.machines()] == [True]

    await ledger.move_machine(A, MachineState.GONE)

    assert await ledger.machines() == []
    assert [m.room_held for m in await ledger.machines({MachineState.GONE})] == [False]


async def test_an_ask_that_finds_nothing_keeps_the_id_and_gives_the_room_back(ledger: Ledger, clock) -> None:
    await machine_in(ledger, MachineState.RESERVED)
    history = await ledger.journal()
    clock.now = 1500.0

    asked = await ledger.begin_ask(A)
    in_flight = await ledger.interrupted_asks()
    ended = await ledger.end_ask(A)

    assert (asked.ask_started_at, asked.room_held, asked.manager_known) == (1500.0, True, True)
    assert in_flight == [asked]
    assert (ended.ask_started_at, ended.room_held, ended.manager_known) == (None, False, True)
    assert await ledger.machine(A) == ended
    assert await ledger.journal() == history  # empty asks are too many to be told


async def test_a_kept_id_asks_again_from_another_host_with_another_size(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.RESERVED)
    await ledger.begin_ask(A)
    await ledger.end_ask(A)
    big = Resources(4, 8192, 10240)

    record = await ledger.begin_ask(A, host="other", resources=big, image_digest="sha256:2")

    assert await ledger.machine(A) == record
    assert (record.host, record.resources, record.image_digest) == ("other", big, "sha256:2")
    assert record.room_held


async def test_a_warm_machine_asks_as_it_is_and_keeps_its_room(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.WAITING)

    asked = await ledger.begin_ask(A, host="other")
    ended = await ledger.end_ask(A)

    assert (asked.host, ended.room_held) == ("local", True)


async def test_an_interrupted_ask_is_told(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.RESERVED)
    await ledger.begin_ask(A)

    await ledger.end_ask(A, "connection cut")

    entry = (await ledger.journal())[-1]
    assert (entry.event, entry.detail["outcome"], entry.detail["started_at"]) == (
        "ask ended",
        "connection cut",
        1000.0,
    )


async def test_one_ask_per_machine(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.RESERVED)
    await ledger.begin_ask(A)

    with pytest.raises(StaleWrite, match="in flight already"):
        await ledger.begin_ask(A)


async def test_a_booting_machine_cannot_be_asked_for(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.BOOTING)

    with pytest.raises(StaleWrite, match="cannot be asked for"):
        await ledger.begin_ask(A)


async def test_a_reservation_unknown_outside_is_forgotten_without_trace_in_the_table(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.RESERVED)

    await ledger.forget_reservation(A)

    assert await ledger.machine(A) is None
    assert (await ledger.journal())[-1].event == "forgotten"


async def test_an_id_that_gitlab_may_know_is_not_forgotten(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.RESERVED)
    await ledger.begin_ask(A)
    await ledger.end_ask(A)

    with pytest.raises(StaleWrite, match="may be known outside"):
        await ledger.forget_reservation(A)


@pytest.mark.parametrize("state", [MachineState.CREATING, MachineState.BOOTING])
async def test_a_boot_is_spent_once(ledger: Ledger, clock, state: MachineState) -> None:
    await machine_in(ledger, state)
    clock.now = 2000.0

    both = await asyncio.gather(ledger.boot(A), ledger.boot(A), return_exceptions=True)

    record = await ledger.machine(A)
    assert (record.state, record.boots, record.booted_at) == (MachineState.WAITING, 1, 2000.0)
    assert sorted(type(one).__name__ for one in both) == ["MachineRecord", "StaleWrite"]


@pytest.mark.parametrize("state", [MachineState.RESERVED, MachineState.RETIRING, MachineState.FAILED])
async def test_a_machine_that_is_not_coming_spends_no_boot(ledger: Ledger, state: MachineState) -> None:
    await machine_in(ledger, state)

    with pytest.raises(StaleWrite):
        await ledger.boot(A)

    assert (await ledger.machine(A)).boots == 0


async def test_only_the_first_end_of_a_guest_counts(ledger: Ledger, clock) -> None:
    await machine_in(ledger, MachineState.WAITING)
    await ledger.note_ended(A, 0)
    clock.now = 2000.0

    record = await ledger.note_ended(A, 99)

    assert (record.ended_reported_at, record.exit_code) == (1000.0, 0)


async def test_the_manager_record_in_gitlab_is_followed(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.RESERVED)
    await ledger.begin_ask(A)

    await ledger.manager_removed(A)

    assert (await ledger.machine(A)).manager_known is False


async def test_machines_are_listed_oldest_first(ledger: Ledger, clock) -> None:
    await machine_in(ledger, MachineState.WAITING, B)
    clock.now = 1001.0
    await machine_in(ledger, MachineState.RESERVED, A)

    assert [m.machine_id for m in await ledger.machines()] == [B, A]
    assert [m.machine_id for m in await ledger.machines({MachineState.RESERVED})] == [A]


async def test_an_id_that_one_gitlab_knows_is_never_asked_for_at_another(ledger: Ledger) -> None:
    await ledger.reserve("fr-aaaaaaaaaaaa", "small", "local", Resources(1, 1, 1), "digest", gitlab="one")

    with pytest.raises(StaleWrite, match="is of gitlab one, not of two"):
        await ledger.begin_ask("fr-aaaaaaaaaaaa", gitlab="two")

    assert (await ledger.begin_ask("fr-aaaaaaaaaaaa", gitlab="one")).gitlab == "one"


async def test_a_launch_and_what_it_intends_are_one_write(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.RESERVED)

    machine, seq = await ledger.begin_launch(A, "5e" * 32, "b1" * 32)

    assert machine == await ledger.machine(A)
    assert (machine.state, machine.room_held) == (MachineState.CREATING, True)
    assert (machine.credential_hash, machine.baked) == ("5e" * 32, "b1" * 32)
    [intended] = await ledger.unfinished()
    assert (intended.seq, intended.event, intended.subject) == (seq, "create", A)
    assert intended.detail == {"host": machine.host}


async def test_a_second_launch_intends_nothing(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.RESERVED)
    await ledger.begin_launch(A, "5e" * 32, "b1" * 32)

    with pytest.raises(StaleWrite, match="is creating, not reserved as expected"):
        await ledger.begin_launch(A, "6f" * 32, "b1" * 32)

    assert len(await ledger.unfinished()) == 1
