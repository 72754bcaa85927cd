"""Warm machines: they are replaced before their time is up, follow their pool, and give way to asks."""

from __future__ import annotations

from dataclasses import dataclass

from planning_given import SMALL, A, B, C, Told, a_pool

from firerunner.ledger.states import MachineState
from firerunner.machines.spec import Resources
from firerunner.planning import (
    Action,
    Ask,
    AskOutcome,
    Auto,
    MachineMoved,
    PoolChanged,
    Refill,
    Retire,
    warm_states,
)

AGE_S = 400.0
NO_ASKS = {"check_interval_s": 1e9, "warm_age_s": AGE_S}


@dataclass
class Warm(Told):
    """Told, with waiting machines that have an age and an image."""

    image: str = "old"

    def waits(self, machine_id: str, *, pool: str = "demo", baked: str | None = "a", image: str = "") -> None:
        self.tell(
            MachineMoved(
                machine_id,
                pool,
                "local",
                SMALL,
                MachineState.WAITING,
                has_job=False,
                room_held=True,
                at=self.now,
                since=self.now,
                image=image or self.image,
                baked=baked,
            )
        )

    def declare(self, name: str = "demo", **changes: object) -> list[Action]:
        facts = a_pool(name, **({"image": self.image, "baked": "a"} | NO_ASKS | changes))
        return self.tell(PoolChanged(facts, self.now))

    def gone(self, machine_id: str, pool: str = "demo") -> list[Action]:
        """It is retired, and its room free."""
        self.machine(machine_id, MachineState.RETIRING, pool=pool)
        return self.machine(machine_id, MachineState.RETIRING, pool=pool, room=False)


def warm(*machines: str, capacity: int = 16, **pool: object) -> Warm:
    """A pool that has asked and found nothing, and its waiting machines."""
    told = Warm()
    told.host("local", Resources(capacity, 65536, 262144))
    told.declare(**({"warm": len(machines)} | pool))
    for machine_id in machines:
        told.waits(machine_id)
    (asked,) = told.tick()
    told.ended(AskOutcome.NOTHING, asked.machine_id)
    return told


def retired(actions: list[Action]) -> list[str]:
    return [action.machine_id for action in actions if isinstance(action, Retire)]


def refilled(actions: list[Action]) -> int:
    return sum(isinstance(action, Refill) for action in actions)


def until(told: Warm, seconds: float) -> list[Action]:
    """All that is done in so many seconds."""
    actions: list[Action] = []
    for _ in range(int(seconds)):
        actions += told.tick(1.0)
    return actions


def test_a_machine_is_replaced_before_its_time_is_up_and_then_retired() -> None:
    told = warm(A)

    before = until(told, AGE_S * 0.6)
    later = until(told, AGE_S * 0.4)

    assert before == []
    assert [type(action) for action in later[:2]] == [Refill, Retire]
    told = warm(A)
    while not refilled(told.tick(1.0)):
        pass
    told.waits(B)
    assert retired(told.tick(0.0)) == [A]


def test_where_there_is_no_room_for_another_the_old_one_goes_when_its_time_is_up() -> None:
    told = warm(A, capacity=2)

    actions = until(told, AGE_S)

    assert retired(actions)[:1] == [A]
    assert refilled(actions) == 0
    assert told.gone(A) == [Refill("demo", "local")]


def test_machines_that_were_made_together_are_not_retired_together() -> None:
    ids = [f"fr-{number:012d}" for number in range(8)]
    told = warm(*ids, capacity=16)
    at: dict[str, float] = {}

    for second in range(int(AGE_S) + 1):
        for machine_id in retired(told.tick(1.0)):
            at.setdefault(machine_id, second)

    assert set(at) == set(ids)
    assert max(list(at.values()).count(second) for second in at.values()) <= 2


def test_a_new_image_replaces_waiting_machines_one_by_one() -> None:
    told = warm(A, B)
    told.image = "new"

    first = told.declare(warm=2) + told.tick(0.5)
    assert (refilled(first), retired(first)) == (1, [])
    assert refilled(told.tick(1.0)) == 0

    told.waits(C)
    second = told.tick(1.0)
    assert (refilled(second), len(retired(second))) == (0, 1)
    assert refilled(told.tick(1.0)) == 1


def test_a_machine_of_an_image_that_the_pool_no_longer_has_is_not_asked_for() -> None:
    told = warm(A)
    told.image = "new"
    told.declare(warm=1)

    asked = [action for action in told.wake() if isinstance(action, Ask)]

    assert [action.machine_id for action in asked] == [None]


def test_what_nobody_knows_any_more_is_no_change_of_options_but_what_is_known_is() -> None:
    told = warm()
    told.declare(warm=2)
    told.waits(A, baked=None)
    told.waits(B, baked="a")
    assert told.tick(1.0) == []

    told.declare(warm=2, baked="b")
    assert refilled(told.tick(1.0)) + refilled(told.tick(1.0)) <= 1
    told.waits(C, baked="b")
    assert retired(told.tick(1.0)) == [B]


def test_an_idle_warm_machine_gives_way_once_to_a_pool_that_would_ask() -> None:
    told = warm(A, capacity=2)

    given = told.declare("other") + told.tick(1.0)
    assert retired(given) == [A]
    assert [a for a in told.tick(1.0) if not isinstance(a, Retire)] == []

    assert told.gone(A) == [Ask("other", None, "local")]
    told.machine(C, MachineState.RESERVED, pool="other")
    told.machine(C, MachineState.RESERVED, pool="other", room=False)
    assert refilled(told.ended(AskOutcome.NOTHING, C, pool="other")) == 0
    assert refilled(until(told, 250)) == 0
    state = warm_states(told.fleet)["demo"]
    assert (state.wished, state.waiting) == (1, 0)
    assert state.fewer_because is not None and "gave way to pool other" in state.fewer_because
    assert refilled(until(told, 60)) == 1


def test_a_machine_that_is_asked_for_never_gives_way() -> None:
    told = warm(A, capacity=2)
    assert told.wake() == [Ask("demo", A, "local")]

    given = told.declare("other") + told.tick(1.0)

    assert retired(given) == []


def test_the_pool_with_most_to_spare_gives_way() -> None:
    told = warm(A, B, capacity=6)
    told.declare("third", warm=1)
    told.waits(C, pool="third")
    told.tick(1.0)
    told.ended(AskOutcome.NOTHING, C, pool="third")

    given = told.declare("other", hosts=("local",)) + told.tick(1.0)

    assert len(retired(given)) == 1 and set(retired(given)) < {A, B}


def test_an_automatic_wish_rises_at_once_and_falls_slowly() -> None:
    told = warm(warm=Auto(misses=0.05, most=3))
    for _ in range(200):
        told.fleet.pool("demo").experience.note_job(told.now)
    told.tick(1.0)
    assert warm_states(told.fleet)["demo"].wished == 3

    told.fleet.pool("demo").experience.arrivals.clear()
    wishes = []
    for _ in range(100):
        told.tick(1.0)
        wishes.append(warm_states(told.fleet)["demo"].wished)

    assert wishes == sorted(wishes, reverse=True)
    assert wishes[0] >= 2 and wishes[-1] == 0


def test_a_machine_whose_time_is_up_is_not_asked_for_again_and_goes_when_its_ask_is_over() -> None:
    told = warm(A)
    assert told.wake() == [Ask("demo", A, "local")]
    for _ in range(int(AGE_S) + 10):
        told.tick(1.0)
    told.wake()

    ended = told.ended(AskOutcome.NOTHING, A) + told.tick(1.0)

    assert A not in [action.machine_id for action in ended if isinstance(action, Ask)]
    assert retired(ended) == [A]
