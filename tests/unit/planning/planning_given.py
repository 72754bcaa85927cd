"""Given: pools, hosts and machines, told to a fleet by a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from firerunner.ledger.states import MachineState
from firerunner.machines.spec import Resources
from firerunner.planning import (
    Action,
    AskEnded,
    AskOutcome,
    Event,
    Fleet,
    HostChanged,
    HostFacts,
    JobHomeless,
    MachineMoved,
    MachineRemoved,
    PoolChanged,
    PoolFacts,
    PoolWoken,
    Tick,
    plan,
    reasons,
)

SMALL = Resources(2, 1024, 4096)
HOST = Resources(4, 8192, 65536)
A, B, C = "fr-aaaaaaaaaaaa", "fr-bbbbbbbbbbbb", "fr-cccccccccccc"


def a_pool(name: str = "demo", **changes: object) -> PoolFacts:
    facts = PoolFacts(
        name=name,
        resources=SMALL,
        hosts=("local",),
        limit=10,
        warm=0,
        check_interval_s=3.0,
        image_ready=True,
    )
    return replace(facts, **changes)


@dataclass
class Told:
    """A fleet, and short ways to tell it things. Every way returns the actions that follow."""

    fleet: Fleet = field(default_factory=Fleet)
    now: float = 1000.0

    def tell(self, event: Event) -> list[Action]:
        return plan(self.fleet, event)

    def host(
        self,
        name: str = "local",
        capacity: Resources = HOST,
        *,
        usable: bool = True,
        reason: str = "",
        until: float | None = None,
    ) -> list[Action]:
        return self.tell(HostChanged(HostFacts(name, capacity, usable, reason), self.now, until))

    def pool(self, name: str = "demo", **changes: object) -> list[Action]:
        return self.tell(PoolChanged(a_pool(name, **changes), self.now))

    def machine(
        self,
        machine_id: str,
        state: MachineState,
        *,
        pool: str = "demo",
        host: str = "local",
        job: int | None = None,
        room: bool = True,
        resources: Resources = SMALL,
        named: bool = True,
    ) -> list[Action]:
        return self.tell(
            MachineMoved(
                machine_id,
                pool,
                host,
                resources,
                state,
                job is not None,
                room,
                self.now,
                job if named else None,
            )
        )

    def removed(self, machine_id: str) -> list[Action]:
        return self.tell(MachineRemoved(machine_id, self.now))

    def wake(self, pool: str = "demo") -> list[Action]:
        return self.tell(PoolWoken(pool, self.now))

    def ended(
        self, outcome: AskOutcome, machine_id: str | None = A, *, pool: str = "demo", number=None, **more
    ) -> list[Action]:
        """`number`: the last one that has begun, if it is not said."""
        number = number or self.fleet.pool(pool).asked
        return self.tell(AskEnded(pool, number, machine_id, outcome, self.now, **more))

    def homeless(self, job_id: int, pool: str = "demo") -> list[Action]:
        return self.tell(JobHomeless(job_id, pool, self.now))

    def tick(self, after_s: float = 0.0) -> list[Action]:
        self.now += after_s
        return self.tell(Tick(self.now))

    def nothing_found(self, machine_id: str = A, pool: str = "demo") -> list[Action]:
        """The ask in flight, for a reserved id, ends without a job."""
        self.machine(machine_id, MachineState.RESERVED, pool=pool, room=False)
        return self.ended(AskOutcome.NOTHING, machine_id, pool=pool)

    def why(self, pool: str = "demo") -> str:
        return reasons(self.fleet)[pool]


def started(**pool: object) -> tuple[Told, list[Action]]:
    """One host, one pool, and the first tick; with what the plan made of it."""
    told = Told()
    told.host()
    told.pool(**pool)
    return told, told.tick()
