"""Homeless jobs and warm machines."""

from __future__ import annotations

from planning_given import HOST, SMALL, A, B, C, Told, started

from firerunner.ledger.states import MachineState
from firerunner.machines.spec import Resources
from firerunner.planning import Ask, AskOutcome, Assign, Launch, NotDone, Refill, Retire

RESERVED, WAITING, BUSY = MachineState.RESERVED, MachineState.WAITING, MachineState.BUSY


def idle(**pool: object) -> Told:
    """A pool that does not ask by itself for a long time."""
    told, _ = started(check_interval_s=300.0, **pool)
    told.nothing_found()
    return told


def test_a_homeless_job_gets_a_new_machine_that_is_launched() -> None:
    told = idle()

    assert told.homeless(7) == [Assign(7, "demo", "local")]
    assert told.fleet.free("local") == HOST - SMALL
    assert told.machine(B, RESERVED, job=7) == [Launch(B, "demo")]
    assert told.fleet.free("local") == HOST - SMALL
    assert told.fleet.pool("demo").claims == {}


def test_a_job_that_is_told_again_gets_no_second_machine() -> None:
    told = idle()
    told.homeless(7)

    assert told.homeless(7) == []
    told.machine(B, RESERVED, job=7)
    assert told.homeless(7) == []


def test_a_machine_that_does_not_say_whose_it_is_ends_the_oldest_assignment_on_its_host() -> None:
    told = idle()
    told.homeless(7)

    told.machine(B, RESERVED)
    told.machine(B, RESERVED, job=7, named=False)

    assert told.fleet.pool("demo").claims == {}
    assert told.fleet.free("local") == HOST - SMALL


def test_an_assignment_that_failed_is_made_again() -> None:
    told = idle()
    [assign] = told.homeless(7)

    assert told.tell(NotDone(assign, told.now)) == [Assign(7, "demo", "local")]


def test_an_assignment_of_which_nothing_is_heard_is_made_again() -> None:
    told = idle()
    told.homeless(7)

    assert told.tick(59.0) == []
    assert told.tick(1.0) == [Assign(7, "demo", "local")]
    assert told.fleet.free("local") == HOST - SMALL


def test_a_homeless_job_comes_before_asks_and_keeps_its_host_free_for_itself() -> None:
    big = Resources(4, 1024, 4096)
    told = Told()
    told.host()
    told.pool("big", resources=big, check_interval_s=300.0)
    told.pool("small", check_interval_s=300.0)
    told.machine(A, BUSY, pool="small", job=1)
    told.machine(B, BUSY, pool="small", job=2)
    told.tick()

    assert told.homeless(7, "big") == []
    assert told.removed(A) == []
    assert (
        told.why("big") == "job 7 needs another machine first; no room: host local has 2 of 4 vCPU, needs 4"
    )
    assert told.why("small") == "no room: host local is kept free for job 7, which needs another machine"
    assert told.removed(B) == [Assign(7, "big", "local")]


def test_a_job_that_can_fit_nowhere_keeps_nothing_free() -> None:
    told = Told()
    told.host()
    told.pool("huge", resources=Resources(64, 1, 1))
    told.pool("small")
    told.tick()
    told.nothing_found(A, "small")

    assert told.homeless(7, "huge") == []
    assert told.tick(3.0) == [Ask("small", A, "local")]


def test_a_pool_with_a_homeless_job_does_not_ask_for_more() -> None:
    told = idle(limit=1)
    told.machine(B, MachineState.FAILED)

    assert told.homeless(7) + told.wake() == []
    assert told.why() == "job 7 needs another machine first; limit of 1 machines reached"
    assert told.removed(B) == [Assign(7, "demo", "local")]


def test_a_homeless_job_takes_a_waiting_machine() -> None:
    told = idle(warm=1)
    told.machine(B, WAITING)

    actions = told.homeless(7)

    assert actions == [Assign(7, "demo", "local", B)]
    assert told.machine(B, WAITING, job=7) == [Refill("demo", "local")]


def test_warm_machines_are_made_after_the_asks() -> None:
    told = Told()
    told.host()
    told.pool(warm=2)

    assert told.tick() == [Ask("demo", None, "local"), Refill("demo", "local")]
    assert told.machine(B, MachineState.CREATING) == []
    assert told.nothing_found() == [Refill("demo", "local")]
    assert told.fleet.free("local") == Resources(0, 6144, 57344)


def test_a_refill_that_failed_is_made_again_later() -> None:
    told, [_, refill] = started(warm=1, check_interval_s=300.0)

    assert told.tell(NotDone(refill, told.now)) == []
    assert told.tick(4.9) == []
    assert told.tick(0.1) == [Refill("demo", "local")]


def test_a_refill_is_not_made_twice_while_it_is_on_its_way() -> None:
    told, _ = started(warm=1, check_interval_s=300.0, limit=2)
    told.nothing_found()

    for state in (RESERVED, MachineState.CREATING, MachineState.BOOTING, WAITING):
        assert told.machine(B, state) == []
    assert told.tick(1.0) == []


def test_a_warm_pool_that_is_full_refills_when_a_job_took_one() -> None:
    told = Told()
    told.host()
    told.pool(warm=1, limit=2, check_interval_s=300.0)
    told.machine(A, WAITING)
    told.tick()

    actions = told.machine(A, WAITING, job=7)

    assert actions == [Refill("demo", "local")]
    assert told.ended(AskOutcome.JOB) == []


def test_too_many_warm_machines_are_retired_the_longest_waiting_first() -> None:
    told = Told()
    told.host()
    told.pool(warm=2, check_interval_s=300.0)
    told.machine(A, WAITING)
    told.machine(B, WAITING)
    told.tick()
    told.ended(AskOutcome.NOTHING)
    told.pool(warm=1, check_interval_s=300.0)

    assert told.tick(1.0) == [Retire(A, "more than 1 warm machines in pool demo")]
    assert told.tick(1.0) == []
    assert told.tick(9.0) == [Retire(A, "more than 1 warm machines in pool demo")]
    told.machine(A, MachineState.RETIRING)
    assert told.tick(20.0) == []


def test_a_waiting_machine_of_an_old_size_gets_no_job() -> None:
    told = idle(warm=1)
    told.machine(B, WAITING)

    actions = told.pool(warm=1, resources=Resources(1, 512, 4096), check_interval_s=300.0)

    assert Retire(B, "pool demo has another size now") in actions + told.tick(1.0)
    assert told.wake() == [Ask("demo", A, "local")]


def test_a_paused_pool_keeps_its_warm_machines_and_homes_its_jobs() -> None:
    told = idle(warm=1)
    told.machine(B, WAITING)
    told.machine(C, BUSY, job=3)
    told.pool(warm=0, paused_reason="stopping (hand over)")

    assert told.tick(400.0) == []
    told.removed(C)
    assert told.homeless(7) == [Assign(7, "demo", "local", B)]
