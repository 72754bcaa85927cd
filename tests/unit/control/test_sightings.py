"""What a driver sees, set against the ledger: dead machines, leaks, and the mass-death brake."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from firerunner.control.sightings import BRAKE_COUNT, EXPECTED, compare
from firerunner.ledger import MachineRecord, MachineState
from firerunner.machines.spec import Resources, Sighting

LIVE = st.sampled_from(sorted(set(MachineState) - {MachineState.GONE}))


def machine(number: int, state: MachineState, *, said_ended: bool = False) -> MachineRecord:
    return MachineRecord(
        machine_id=f"fr-{number:012d}",
        pool="small",
        host="local",
        state=state,
        state_since=0.0,
        resources=Resources(1, 256, 1024),
        image_digest="0" * 64,
        created_at=0.0,
        ended_reported_at=1.0 if said_ended else None,
    )


def alive(record: MachineRecord) -> Sighting:
    return Sighting(record.machine_id, alive=True)


def test_a_machine_that_ended_is_dead_with_its_reason() -> None:
    busy = machine(1, MachineState.BUSY)

    found = compare([Sighting(busy.machine_id, alive=False, detail="VMM killed by signal 9")], [busy])

    assert found.dead == {busy.machine_id: "VMM killed by signal 9"}
    assert not found.leaked


def test_a_machine_that_vanished_is_dead() -> None:
    busy, other = machine(1, MachineState.BUSY), machine(2, MachineState.BUSY)

    found = compare([alive(other)], [busy, other])

    assert found.dead == {busy.machine_id: "the machine vanished from its host"}


def test_a_host_that_shows_nothing_at_all_is_not_believed_while_a_job_should_run_there() -> None:
    busy, idle = machine(1, MachineState.BUSY), machine(2, MachineState.WAITING)
    over = machine(3, MachineState.BUSY, said_ended=True)

    assert not compare([], [busy, idle]).dead
    assert set(compare([], [busy, idle], may_brake=False).dead) == {busy.machine_id, idle.machine_id}
    assert set(compare([], [idle, over]).dead) == {idle.machine_id, over.machine_id}


def test_a_machine_being_made_or_unmade_is_not_expected_to_be_there() -> None:
    records = [machine(1, MachineState.CREATING), machine(2, MachineState.RETIRING)]

    assert not compare([], records).dead


def test_a_stranger_is_a_leak() -> None:
    assert compare([Sighting("fr-stranger0000", alive=True)], []).leaked == {"fr-stranger0000"}


def test_many_deaths_at_once_without_a_word_are_not_believed() -> None:
    records = [machine(number, MachineState.BUSY) for number in range(BRAKE_COUNT)]

    found = compare([], records)

    assert found.brake is not None
    assert not found.dead


def test_many_ends_that_the_guests_have_announced_are_believed() -> None:
    records = [machine(number, MachineState.BUSY, said_ended=True) for number in range(20)]
    seen = [dataclasses.replace(alive(record), alive=False, detail="guest reboot") for record in records]

    found = compare(seen, records)

    assert found.brake is None
    assert len(found.dead) == 20


@given(st.lists(LIVE, max_size=30), st.integers(0, 2**30), st.integers(0, 5))
def test_laws(states: list[MachineState], dead_mask: int, strangers: int) -> None:
    records = [machine(number, state) for number, state in enumerate(states)]
    seen = [
        Sighting(record.machine_id, alive=not dead_mask >> number & 1)
        for number, record in enumerate(records)
    ]
    seen += [Sighting(f"fr-stranger{number:04d}", alive=True) for number in range(strangers)]

    found = compare(seen, records)

    assert len(found.leaked) == strangers
    assert set(found.dead) <= {record.machine_id for record in records if record.state in EXPECTED}
    assert not (found.held & set(found.dead))


def test_the_brake_holds_for_those_it_was_put_on_for_also_when_they_become_few() -> None:
    records = [machine(number, MachineState.BUSY) for number in range(BRAKE_COUNT + 1)]
    first = compare([], records)

    later = compare([], records[:2], held=first.held)
    back = compare([alive(record) for record in records[:2]], records[:2], held=later.held)

    assert first.brake is not None
    assert (later.brake is not None, later.dead) == (True, {})
    assert (back.brake, back.dead, back.held) == (None, {}, frozenset())
    assert set(compare([], records[:2], may_brake=False, held=first.held).dead) == {
        record.machine_id for record in records[:2]
    }
