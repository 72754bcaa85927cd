"""One event costs what it changes: no look at all machines, however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from planning_given import Told

from firerunner.ledger.states import MachineState
from firerunner.machines.spec import Resources
from firerunner.planning import AskOutcome


class CountedDict(dict[str, Any]):
    """Counts the entries that are looked at."""

    def __init__(self, entries: dict[str, Any], counts: Counter[str], name: str) -> None:
        super().__init__(entries)
        self._counts, self._name = counts, name

    def __getitem__(self, key: str) -> Any:
        self._counts[self._name] += 1
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._counts[self._name] += 1
        return super().get(key, default)

    def __iter__(self) -> Iterator[str]:
        for key in super().__iter__():
            self._counts[self._name] += 1
            yield key

    def values(self) -> Any:
        self._counts[self._name] += len(self)
        return super().values()

    def items(self) -> Any:
        self._counts[self._name] += len(self)
        return super().items()


POOLS, HOSTS = 5, 8


def fleet_of(machines: int) -> tuple[Told, Counter[str]]:
    """Busy machines everywhere, warm ones, pools that wait for room; and a count of what is looked at."""
    told = Told()
    capacity = Resources(2 * machines, 1024 * machines, 4096 * machines)
    for number in range(HOSTS):
        told.host(f"h{number}", capacity)
    for number in range(POOLS):
        told.pool(
            f"p{number}", hosts=tuple(f"h{n}" for n in range(HOSTS)), limit=10 * machines, warm=machines
        )
    for number in range(machines):
        state = MachineState.BUSY if number % 2 else MachineState.WAITING
        told.machine(
            f"fr-{number:012d}",
            state,
            pool=f"p{number % POOLS}",
            host=f"h{number % HOSTS}",
            job=number if number % 2 else None,
        )
    told.tick()
    counts: Counter[str] = Counter()
    fleet = told.fleet
    fleet.machines = CountedDict(fleet.machines, counts, "machines")
    fleet.hosts = CountedDict(fleet.hosts, counts, "hosts")
    fleet.pools = CountedDict(fleet.pools, counts, "pools")
    for pool in fleet.pools.values():
        pool.waiting = CountedDict(pool.waiting, counts, "machines")
        pool.coming = CountedDict(pool.coming, counts, "machines")
        pool.reserved = CountedDict(pool.reserved, counts, "machines")
    counts.clear()
    return told, counts


EVENTS = {
    "tick": lambda told: told.tick(0.5),
    "wake": lambda told: told.wake("p1"),
    "host": lambda told: told.host("h1", Resources(1, 1, 1)),
    "machine moves": lambda told: told.machine(
        "fr-000000000001", MachineState.RETIRING, pool="p1", host="h1"
    ),
    "machine gone": lambda told: told.removed("fr-000000000001"),
    "ask ends": lambda told: told.ended(AskOutcome.NOTHING, "fr-000000000000", pool="p0"),
    "homeless": lambda told: told.homeless(99999, "p2"),
}


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_costs_the_same_with_ten_times_the_machines(event: str) -> None:
    few, few_counts = fleet_of(40)
    many, many_counts = fleet_of(400)

    EVENTS[event](few)
    EVENTS[event](many)

    assert many_counts["machines"] == few_counts["machines"]
    assert many_counts["machines"] <= 20
    assert many_counts["pools"] + many_counts["hosts"] <= 12 * (POOLS + HOSTS)
