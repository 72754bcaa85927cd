"""The laws of the plan, in a world where anything may happen at any time.

The world (`planning_world`) checks with each action and event: never over capacity, never over a limit,
one ask per pool, one machine per job, no job without one while there is room, a reason for each pool
that does not ask, and that a fleet built from scratch knows the same. In the end everything ends.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from planning_world import UNDELIVERED, World

from firerunner.ledger.states import MachineState as M
from firerunner.machines.spec import Resources
from firerunner.planning import (
    AskOutcome,
    HostChanged,
    HostFacts,
    JobHomeless,
    PoolChanged,
    PoolFacts,
    PoolWoken,
    Tick,
)

HOSTS = ("h1", "h2", "h3")
POOLS = ("p1", "p2", "p3")

capacities = st.builds(Resources, st.integers(2, 8), st.integers(2, 8), st.integers(2, 8))
sizes = st.builds(Resources, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
outcomes = st.sampled_from([AskOutcome.JOB] * 4 + list(AskOutcome))
seconds = st.sampled_from([0.0, 0.5, 1.0, 3.0, 10.0, 70.0])
pools = st.builds(
    PoolFacts,
    name=st.just(""),
    resources=sizes,
    hosts=st.lists(st.sampled_from(HOSTS), unique=True, min_size=1).map(tuple),
    limit=st.integers(1, 5),
    warm=st.integers(0, 2),
    check_interval_s=st.sampled_from([1.0, 3.0, 60.0]),
    image_ready=st.just(True),
)
changes = st.sampled_from(
    [
        {"paused_reason": "paused"},
        {"paused_reason": None},
        {"image_ready": False},
        {"image_ready": True},
        {"limit": 0},
        {"limit": 2},
        {"limit": 5},
        {"warm": 0},
        {"warm": 2},
        {"hosts": ()},
        {"hosts": HOSTS},
        {"hosts": HOSTS[:1]},
    ]
)


def pick(data: st.DataObject, things) -> object:
    return data.draw(st.sampled_from(list(things)))


class Fleets(RuleBasedStateMachine):
    """Random pools, hosts and events."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        world = self.world
        for name in data.draw(st.permutations([*HOSTS, *POOLS])):
            if name in HOSTS:
                self.change_host(name, data.draw(capacities), True, None)
            else:
                self.change_pool(name, replace(data.draw(pools), name=name))
        for _ in range(data.draw(st.integers(0, 3))):  # found at the start
            pool = world.pools[pick(data, POOLS)]
            machine = world.make(pool.name, pick(data, HOSTS))
            machine.state = pick(data, [M.RESERVED, M.WAITING, M.BUSY, M.RETIRING])
            machine.job_id = world.new_job() if machine.state is M.BUSY else None
            machine.room_held = machine.state is not M.RESERVED or data.draw(st.booleans())
            world.tell_machine(machine)
        world.started = True
        world.tell(Tick(world.now))

    # --- facts ---

    def change_host(self, name: str, capacity: Resources, usable: bool, pause: float | None) -> None:
        until = None if usable or pause is None else self.world.now + pause
        event = HostChanged(HostFacts(name, capacity, usable, "broken"), self.world.now, until)
        self.world.hosts[name] = event
        self.world.tell(event)

    @precondition(lambda self: len(self.world.machines) > 1)
    @rule(name=st.sampled_from(HOSTS), capacity=capacities, usable=st.booleans(), pause=st.none() | seconds)
    def host_changes(self, name: str, capacity: Resources, usable: bool, pause: float | None) -> None:
        self.change_host(name, capacity, usable, pause)

    def change_pool(self, name: str, facts: PoolFacts) -> None:
        self.world.pools[name] = facts
        self.world.tell(PoolChanged(facts, self.world.now))

    @precondition(lambda self: len(self.world.machines) > 1)
    @rule(name=st.sampled_from(POOLS), changed=changes)
    def pool_changes(self, name: str, changed: dict[str, object]) -> None:
        self.change_pool(name, replace(self.world.pools[name], **changed))

    @rule(after_s=seconds)
    def tick(self, after_s: float) -> None:
        # Silence is not this world's subject: what it is asked for is done within a minute.
        if self.world.now + after_s - self.world.pending_since > 50.0:
            self.world.catch_up()
        self.world.now += after_s
        self.world.tell(Tick(self.world.now))

    @rule(name=st.sampled_from(POOLS))
    def wake(self, name: str) -> None:
        self.world.tell(PoolWoken(name, self.world.now))

    # --- actions carried out ---

    def _asks(self, *, begun: bool) -> list[tuple[str, int]]:
        return [key for key, ask in self.world.asks.items() if ask.begun is begun]

    @precondition(lambda self: self._asks(begun=False))
    @rule(data=st.data(), tell=st.booleans(), fails=st.integers(0, 9))
    def begin_ask(self, data: st.DataObject, tell: bool, fails: int) -> None:
        key = pick(data, self._asks(begun=False))
        if fails == 0 or self._cannot_begin(key):
            self.world.fail(self.world.asks[key].action)
        else:
            self.world.begin_ask(key, tell=tell)

    def _cannot_begin(self, key: tuple[str, int]) -> bool:
        machine = self.world.machines.get(self.world.asks[key].machine_id or "")
        asked = self.world.asks[key].machine_id is not None
        return asked and (machine is None or machine.state not in {M.RESERVED, M.WAITING})

    @precondition(lambda self: self._asks(begun=True))
    @rule(data=st.data(), outcome=outcomes, named=st.booleans(), machine_first=st.booleans())
    def end_ask(self, data: st.DataObject, outcome: AskOutcome, named: bool, machine_first: bool) -> None:
        key = pick(data, self._asks(begun=True))
        self.world.end_ask(key, outcome, named=named, machine_first=machine_first)

    @precondition(lambda self: self.world.pending)
    @rule(data=st.data(), in_steps=st.booleans(), named=st.booleans(), fails=st.integers(0, 9))
    def act(self, data: st.DataObject, in_steps: bool, named: bool, fails: int) -> None:
        action = pick(data, self.world.pending)
        if fails == 0:
            self.world.fail(action)
        else:
            self.world.do(action, in_steps=in_steps, named=named)

    @precondition(lambda self: self.world.launches)
    @rule(data=st.data())
    def launch(self, data: st.DataObject) -> None:
        self.world.launch(pick(data, self.world.launches))

    @precondition(lambda self: self.world.retirements)
    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        self.world.retire(pick(data, self.world.retirements))

    # --- machines and jobs by themselves ---

    def _movable(self) -> list[str]:
        engaged = {ask.machine_id for ask in self.world.asks.values()}
        return [m.machine_id for m in self.world.machines.values() if m.machine_id not in engaged]

    @precondition(lambda self: self._movable())
    @rule(data=st.data())
    def advance(self, data: st.DataObject) -> None:
        self.world.advance(self.world.machines[pick(data, self._movable())])

    @precondition(lambda self: self.world.machines)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        machine = self.world.machines[pick(data, self.world.machines)]
        if machine.state in {M.CREATING, M.BOOTING, M.WAITING, M.BUSY}:
            self.world.move(machine, M.FAILED)

    def _undelivered(self) -> list[str]:
        early = UNDELIVERED - {M.RESERVED}
        return [m.machine_id for m in self.world.machines.values() if m.job_id and m.state in early]

    @precondition(lambda self: self._undelivered())
    @rule(data=st.data())
    def die_before_delivery(self, data: st.DataObject) -> None:
        self.world.move(self.world.machines[pick(data, self._undelivered())], M.FAILED)

    @precondition(lambda self: self.world.told)
    @rule(data=st.data())
    def say_again(self, data: st.DataObject) -> None:
        self.world.tell(self.world.told[pick(data, self.world.told)])

    @precondition(lambda self: self.world.homeless)
    @rule(data=st.data())
    def say_homeless_again(self, data: st.DataObject) -> None:
        job_id = pick(data, self.world.homeless)
        self.world.tell(JobHomeless(job_id, self.world.homeless[job_id], self.world.now))

    # --- in the end ---

    def teardown(self) -> None:
        """Everything works again, nobody has new jobs: every job runs, every reservation ends."""
        world = self.world
        if not world.started:
            return
        for name in HOSTS:
            self.change_host(name, Resources(100, 100, 100), True, None)
        for name, facts in list(world.pools.items()):
            self.change_pool(name, PoolFacts(name, facts.resources, HOSTS, 100, 0, 3.0, True, None))
        for _ in range(12):
            self._work_off()
            world.now += 61.0
            world.tell(Tick(world.now))
        self._work_off()
        left = {m.state for m in world.machines.values()}
        assert left <= {M.RESERVED}, f"machines never ended: {left}"
        assert not any(m.room_held for m in world.machines.values()), "a reservation never ended"
        assert all(sum(m.pool == pool for m in world.machines.values()) <= 1 for pool in POOLS), (
            "more than one id kept"
        )
        assert not world.homeless, "a job never got a machine"
        assert not any(pool.claims for pool in world.fleet.pools.values()), "an action is remembered for ever"
        assert not world.fleet.todos

    def _work_off(self) -> None:
        """Do all that is asked for, well, and let every machine come to its end."""
        world = self.world
        for key in self._asks(begun=False):
            if self._cannot_begin(key):
                world.fail(world.asks[key].action)
            else:
                world.begin_ask(key, tell=True)
        for key in self._asks(begun=True):
            world.end_ask(key, AskOutcome.NOTHING, named=True, machine_first=True)
        for _ in range(8):
            for action in list(world.pending):
                world.do(action, in_steps=True, named=True)
            for machine_id in list(world.launches):
                world.launch(machine_id)
            for machine_id in list(world.retirements):
                world.retire(machine_id)
            for machine_id in self._movable():
                world.advance(world.machines[machine_id])


Fleets.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestFleets = Fleets.TestCase
