"""When a pool asks, for which machine, on which host, and why it does not."""

from __future__ import annotations

import pytest
from planning_given import HOST, SMALL, A, B, C, Told, started

from firerunner.ledger.states import MachineState
from firerunner.machines.spec import Resources
from firerunner.planning import Action, Ask, AskOutcome, Launch, NotDone, Retire, reasons
from firerunner.planning.plan import MOST_ASKS

RESERVED, WAITING, BUSY = MachineState.RESERVED, MachineState.WAITING, MachineState.BUSY


def test_nothing_is_planned_before_the_first_tick() -> None:
    told = Told()

    assert told.host() + told.pool() + told.wake() == []
    assert told.why() == "starting: looking at hosts and machines"
    assert told.tick() == [Ask("demo", None, "local")]


def test_a_pool_that_has_never_asked_asks_and_holds_room() -> None:
    told, actions = started()

    assert actions == [Ask("demo", None, "local")]
    assert told.fleet.free("local") == HOST - SMALL
    assert reasons(told.fleet) == {}


def test_the_room_is_held_once_when_the_machine_is_told() -> None:
    told, _ = started()

    told.machine(A, RESERVED)

    assert told.fleet.free("local") == HOST - SMALL


def test_an_ask_that_found_nothing_gives_the_room_back_and_is_repeated_with_its_id() -> None:
    told, _ = started()
    told.machine(A, RESERVED)

    assert told.nothing_found() == []
    assert told.fleet.free("local") == HOST
    assert told.why() == "GitLab had no job; next ask in 3.0 s"
    assert told.tick(2.9) == []
    assert told.tick(0.1) == [Ask("demo", A, "local")]


def test_an_ask_that_found_a_job_is_followed_by_another_at_once_and_the_machine_is_launched() -> None:
    told, _ = started()
    told.machine(A, RESERVED)

    launched = told.machine(A, RESERVED, job=7)
    asked = told.ended(AskOutcome.JOB)

    assert launched == [Launch(A, "demo")]
    assert asked == [Ask("demo", None, "local")]


def test_room_is_kept_when_the_end_of_the_ask_is_told_before_the_machine() -> None:
    told, _ = started(limit=1)

    told.ended(AskOutcome.JOB)
    assert told.fleet.free("local") == HOST - SMALL
    told.machine(A, RESERVED, job=7)

    assert told.fleet.free("local") == HOST - SMALL
    assert told.fleet.pool("demo").claims == {}


def test_a_wake_is_an_ask_at_once() -> None:
    told, _ = started(check_interval_s=300.0)
    told.nothing_found()

    assert told.tick(5.0) == []
    assert told.wake() == [Ask("demo", A, "local")]


def test_wakes_during_an_ask_lead_to_one_more_right_after_it() -> None:
    told, _ = started(check_interval_s=300.0)

    assert told.wake() + told.wake() == []
    assert told.nothing_found() == [Ask("demo", A, "local")]
    assert told.nothing_found() == []
    assert told.tick(10.0) == []


@pytest.mark.parametrize("outcome", [AskOutcome.REFUSED, AskOutcome.TROUBLE])
def test_a_failed_ask_is_not_repeated_before_its_time_not_even_when_woken(outcome: AskOutcome) -> None:
    told, _ = started(check_interval_s=300.0)
    told.machine(A, RESERVED, room=False)
    told.ended(outcome, retry_at=1041.0, reason="GitLab refused the runner token")

    assert told.wake() + told.tick(0.0) == []
    assert told.why() == "GitLab refused the runner token; next try in 41 s"
    assert told.tick(40.9) == []
    assert told.tick(0.2) == [Ask("demo", A, "local")]


def test_a_refusal_of_the_old_token_says_nothing_of_a_new_one() -> None:
    told, _ = started(runner="old")
    told.machine(A, RESERVED, room=False)
    told.ended(AskOutcome.REFUSED, retry_at=1060.0, reason="GitLab refused the runner token")

    assert told.pool(runner="old") == []
    assert told.pool(runner="new") + told.tick(5.0) == [Ask("demo", A, "local")]


def test_a_refusal_that_comes_after_the_token_was_replaced_does_not_hold_up_the_new_one() -> None:
    told, _ = started(runner="old")
    told.machine(A, RESERVED, room=False)
    assert told.pool(runner="new") == []

    asks = told.ended(AskOutcome.REFUSED, retry_at=1060.0, reason="GitLab refused it", runner="old")

    assert asks == [Ask("demo", A, "local")]


def test_an_ask_that_could_not_even_begin_is_tried_again() -> None:
    told, [ask] = started(check_interval_s=300.0)

    assert told.tell(NotDone(ask, told.now, "disk full")) == []
    assert told.fleet.free("local") == HOST
    assert told.why() == "disk full; next try in 5 s"
    assert told.tick(5.0) == [Ask("demo", None, "local")]


def test_a_waiting_machine_is_asked_for_before_a_new_one() -> None:
    told = Told()
    told.host()
    told.pool(warm=1)
    told.machine(B, WAITING)

    assert told.tick() == [Ask("demo", B, "local")]
    assert told.fleet.free("local") == HOST - SMALL


def test_the_oldest_ask_goes_first_when_room_is_short() -> None:
    told = Told()
    told.host(capacity=SMALL)
    told.pool("one", check_interval_s=1.0)
    told.pool("two", check_interval_s=1.0)

    first = told.tick()
    second = told.nothing_found(A, pool="one")
    told.tick(1.0)
    third = told.nothing_found(B, pool="two")

    assert first == [Ask("one", None, "local")]
    assert second == [Ask("two", None, "local")]
    assert third == [Ask("one", A, "local")]


LARGE_HOST = Resources(64, 65536, 1 << 20)


def streak(told: Told, jobs: int) -> list[list[Action]]:
    """So many asks, one after the other, bring a job each; with what follows from each answer."""
    followed = []
    oldest = told.fleet.pool("demo").asked - told.fleet.pool("demo").asks + 1
    for number in range(oldest, oldest + jobs):
        machine_id = f"fr-{number:012d}"
        told.machine(machine_id, RESERVED, job=number)
        followed.append(told.ended(AskOutcome.JOB, machine_id, number=number))
    return followed


def asks_of(actions: list[Action]) -> list[Ask]:
    return [each for each in actions if isinstance(each, Ask)]


def large(**pool: object) -> Told:
    told = Told()
    told.host(capacity=LARGE_HOST)
    told.pool(limit=32, **pool)
    told.tick()
    return told


def test_while_jobs_keep_coming_more_asks_are_in_flight_at_a_time() -> None:
    told = large()

    new = [len(asks_of(actions)) for actions in streak(told, 20)]

    assert new == [1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 1]
    assert told.fleet.pool("demo").asks == MOST_ASKS


def test_one_answer_without_a_job_ends_the_row() -> None:
    told = large()
    streak(told, 6)
    assert told.fleet.pool("demo").asks == 4

    assert told.ended(AskOutcome.NOTHING, B, number=7) == []
    assert told.ended(AskOutcome.NOTHING, C, number=8) == []
    assert told.tick(2.9) == []
    assert told.fleet.pool("demo").asks == 2


def test_an_older_asks_answer_does_not_shorten_a_limit_that_gitlab_has_announced() -> None:
    told = large()
    streak(told, 6)

    told.ended(AskOutcome.TROUBLE, None, number=7, retry_at=told.now + 60.0, reason="429")
    told.ended(AskOutcome.TROUBLE, None, number=8, retry_at=told.now + 5.0, reason="500")
    told.machine(B, RESERVED, job=99)
    assert told.ended(AskOutcome.JOB, B, number=9) == []
    told.ended(AskOutcome.NOTHING, None, number=10)

    assert told.why() == "429; next try in 60 s"
    assert asks_of(told.wake() + told.tick(59.0)) == []
    assert len(asks_of(told.tick(1.0))) == 1


def test_a_lost_race_is_followed_by_one_ask_soon() -> None:
    told = large()
    streak(told, 6)

    for number in range(7, 11):
        told.ended(AskOutcome.RACED, None, number=number, retry_at=told.now + 1.0, reason="409")

    assert asks_of(told.tick(0.9)) == []
    assert len(asks_of(told.tick(0.1))) == 1


def test_the_next_ask_does_not_wait_for_the_last_machine_to_be_gone() -> None:
    told = large()
    told.machine(A, BUSY, job=1)
    told.ended(AskOutcome.NOTHING, B, number=1)

    told.machine(A, MachineState.RETIRING, job=1)
    asked = told.wake()

    assert asks_of(asked) == [Ask("demo", None, "local")]
    assert told.fleet.machines[A].room_held


def test_asks_of_one_pool_do_not_take_another_pools_turn() -> None:
    told = large()
    streak(told, 6)
    told.host(capacity=Resources(20, 65536, 1 << 20))  # full: six have a job, four are asked for
    assert told.pool("late") == []
    assert asks_of(streak(told, 1)[0]) == []

    assert told.host(capacity=Resources(22, 65536, 1 << 20)) == [Ask("late", None, "local")]


def test_two_machines_that_were_taken_for_each_other_are_put_right_when_an_ask_ends() -> None:
    told = large()
    streak(told, 2)  # two more are in flight, without an id yet, on one host
    told.machine(B, RESERVED)
    told.machine(A, RESERVED)

    told.ended(AskOutcome.NOTHING, A, number=3)  # as if the first were A's

    assert told.fleet.pool("demo").engaged() == {B}


def test_an_equally_full_host_is_taken_in_the_pools_order_and_the_emptier_one_first() -> None:
    told = Told()
    told.host("a")
    told.host("b")
    told.pool(hosts=("b", "a"))

    assert told.tick() == [Ask("demo", None, "b")]
    told.machine(A, RESERVED, host="b", job=1)
    assert told.ended(AskOutcome.JOB) == [Ask("demo", None, "a")]


def test_a_kept_id_moves_to_the_host_that_has_room() -> None:
    told, _ = started(hosts=("local", "other"))
    told.nothing_found()
    told.host("other")
    told.host("local", usable=False, reason="draining")

    assert told.tick(3.0) == [Ask("demo", A, "other")]
    told.machine(A, RESERVED, host="other", job=7)
    assert told.fleet.free("local") == HOST
    assert told.fleet.free("other") == HOST - SMALL


def test_no_room_is_said_with_figures() -> None:
    told, _ = started()
    told.machine(A, RESERVED, job=1)
    told.ended(AskOutcome.JOB)
    told.machine(B, RESERVED, job=2)

    assert told.ended(AskOutcome.JOB, B) == []
    assert told.why() == "no room: host local has 0 of 4 vCPU, needs 2"


def test_room_that_comes_free_is_used_at_once() -> None:
    told, _ = started(limit=1)
    told.machine(A, BUSY, job=1)
    told.ended(AskOutcome.JOB)

    assert told.why() == "limit of 1 machines reached"
    assert told.removed(A) == [Ask("demo", None, "local")]


@pytest.mark.parametrize(
    ("resources", "short"),
    [
        (Resources(5, 1, 1), "4 of 4 vCPU, needs 5"),
        (Resources(1, 9000, 1), "8192 of 8192 MiB memory, needs 9000"),
        (Resources(1, 1, 70000), "65536 of 65536 MiB disk, needs 70000"),
    ],
)
def test_every_kind_of_room_counts(resources: Resources, short: str) -> None:
    told, actions = started(resources=resources)

    assert actions == []
    assert told.why() == f"no room: host local has {short}"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"paused_reason": "paused by an operator"}, "paused by an operator"),
        ({"image_ready": False}, "its image is missing: run firerunner image build"),
        ({"limit": 0}, "limit of 0 machines reached"),
        ({"hosts": ()}, "no room: it has no host"),
        ({"hosts": ("nowhere",)}, "no room: host nowhere is not known yet"),
    ],
)
def test_a_pool_that_may_not_ask_says_why(changes: dict[str, object], reason: str) -> None:
    told, actions = started(**changes)

    assert actions + told.wake() == []
    assert told.why() == reason


def test_an_unusable_host_says_why_and_is_used_again_after_its_pause() -> None:
    told = Told()
    told.pool()
    told.host(usable=False, reason="/dev/kvm is missing", until=1020.0)

    assert told.tick() == []
    assert told.why() == "no room: host local is not usable: /dev/kvm is missing, next try in 20 s"
    assert told.tick(20.0) == [Ask("demo", None, "local")]


def test_a_machine_that_is_reserved_for_a_job_is_launched_again_if_it_does_not_move() -> None:
    told, _ = started(limit=1)
    told.machine(A, RESERVED, job=7)
    told.ended(AskOutcome.JOB)

    assert told.tick(9.0) == []
    assert told.tick(1.0) == [Launch(A, "demo")]
    told.machine(A, MachineState.CREATING, job=7)
    assert told.tick(20.0) == []


def test_a_launch_waits_for_its_only_host_and_leaves_for_a_better_one() -> None:
    told, _ = started(limit=2)
    told.host(usable=False, reason="broken")

    assert told.machine(A, RESERVED, job=7) == []
    assert told.tick(1.0) == []
    told.host("other")
    told.pool(hosts=("local", "other"), limit=2)
    assert told.tick(1.0) == [Retire(A, "host local is not usable")]


def test_a_pool_whose_machines_do_not_boot_slows_down() -> None:
    told, _ = started(check_interval_s=1.0)
    told.nothing_found()
    for _ in range(3):
        told.machine(B, MachineState.BOOTING, job=7)
        told.machine(B, MachineState.FAILED, job=7)
        told.removed(B)

    assert told.tick(1.0) == []
    assert told.why() == "the last 3 machines ended before they had booted; next try in 4 s"
    assert told.tick(4.0) == [Ask("demo", A, "local")]


def test_a_reservation_that_nobody_asks_for_is_retired() -> None:
    told = Told()
    told.host()
    told.pool(check_interval_s=300.0)
    told.machine(A, RESERVED)
    told.machine(B, RESERVED)

    assert told.tick() == [
        Ask("demo", A, "local"),  # left over from a crash, and of use
        Retire(B, "a reservation of pool demo that nobody asks for"),
    ]
    assert told.nothing_found() + told.tick(1.0) == []
