"""A simulated world around a fleet: it carries out the plan's actions, in any order and badly at times.

It keeps its own books and complains (AssertionError) as soon as an action breaks a law.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from firerunner.ledger.states import MachineState
from firerunner.machines.spec import Resources
from firerunner.planning import (
    Action,
    Ask,
    AskEnded,
    AskOutcome,
    Assign,
    Event,
    Fleet,
    HostChanged,
    JobHomeless,
    Launch,
    MachineMoved,
    MachineRemoved,
    NotDone,
    PoolChanged,
    PoolFacts,
    Refill,
    Retire,
    plan,
    reasons,
)
from firerunner.planning.plan import asks_at_once

M = MachineState
NONE = Resources(0, 0, 0)
NEXT = {M.CREATING: M.BOOTING, M.BOOTING: M.WAITING, M.BUSY: M.RETIRING, M.FAILED: M.RETIRING}
UNDELIVERED = {M.RESERVED, M.CREATING, M.BOOTING, M.WAITING}


@dataclass
class SimMachine:
    machine_id: str
    pool: str
    host: str
    resources: Resources
    state: MachineState = M.RESERVED
    room_held: bool = True
    job_id: int | None = None


@dataclass
class SimAsk:
    action: Ask
    machine_id: str | None = None
    begun: bool = False
    promised: bool = False
    """Room was promised that the plan has not yet seen a machine hold."""


@dataclass
class World:
    fleet: Fleet = field(default_factory=Fleet)
    now: float = 0.0
    hosts: dict[str, HostChanged] = field(default_factory=dict)
    pools: dict[str, PoolFacts] = field(default_factory=dict)
    machines: dict[str, SimMachine] = field(default_factory=dict)
    told: dict[str, MachineMoved] = field(default_factory=dict)
    asks: dict[tuple[str, int], SimAsk] = field(default_factory=dict)
    jobs_in_a_row: Counter[str] = field(default_factory=Counter)
    pending: list[Assign | Refill] = field(default_factory=list)
    pending_since: float = 0.0
    launches: dict[str, None] = field(default_factory=dict)
    retirements: dict[str, None] = field(default_factory=dict)
    homeless: dict[int, str] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    started: bool = False
    ids: int = 0
    jobs: int = 0

    # --- telling the plan ---

    def tell(self, event: Event) -> None:
        self.now = max(self.now, event.at)
        if not self.pending:
            self.pending_since = self.now
        for action in plan(self.fleet, event):
            self.accept(action)
        self.check()

    def tell_machine(self, machine: SimMachine, *, named: bool = True) -> None:
        event = MachineMoved(
            machine.machine_id,
            machine.pool,
            machine.host,
            machine.resources,
            machine.state,
            machine.job_id is not None,
            machine.room_held,
            self.now,
            machine.job_id if named else None,
        )
        self.told[machine.machine_id] = event
        for ask in self.asks.values():
            if ask.machine_id == machine.machine_id and machine.room_held:
                ask.promised = False
        self.tell(event)

    # --- the laws that each action must keep ---

    def accept(self, action: Action) -> None:
        assert self.started
        match action:
            case Ask():
                self.accept_ask(action)
            case Assign(job_id=job_id):
                assert self.homeless.get(job_id) == action.pool, "a machine for a job that needs none"
                assert job_id not in self.assigning(), "two machines for one job"
                if action.machine_id is not None:
                    self.must_be_free(action.machine_id, action.pool)
                self.pending.append(action)
            case Refill(pool=pool):
                self.pending.append(action)
                assert self.pools[pool].paused_reason is None
                assert self.without_job(pool) <= self.pools[pool].warm, "more warm machines than wanted"
            case Launch(machine_id=machine_id):
                machine = self.machines[machine_id]
                assert (machine.state, machine.room_held) == (M.RESERVED, True)
                self.launches[machine_id] = None
                return
            case Retire(machine_id=machine_id):
                machine = self.machines[machine_id]
                if machine.job_id is None:
                    self.must_be_free(machine_id, machine.pool, states={M.RESERVED, M.WAITING})
                else:
                    assert machine.state is M.RESERVED, "a machine with a job is retired"
                self.retirements[machine_id] = None
                self.launches.pop(machine_id, None)
                return
        if isinstance(action, Refill) or (isinstance(action, Assign) and action.machine_id is None):
            self.must_have_room(action.host, action.pool)

    def accept_ask(self, action: Ask) -> None:
        facts = self.pools[action.pool]
        in_flight = sum(pool == action.pool for pool, _ in self.asks)
        most = asks_at_once(self.jobs_in_a_row[action.pool])
        assert in_flight < most, f"{in_flight + 1} asks at once, and {most} are allowed"
        assert facts.image_ready and facts.paused_reason is None
        assert not any(
            pool == action.pool and job_id not in self.assigning() for job_id, pool in self.homeless.items()
        ), "asks for more while a job is homeless"
        if action.machine_id is not None:
            self.must_be_free(action.machine_id, action.pool, states={M.RESERVED, M.WAITING})
        machine = self.machines.get(action.machine_id or "")
        needs_room = machine is None or not machine.room_held
        self.asks[action.pool, action.number] = SimAsk(action, action.machine_id, promised=needs_room)
        if needs_room:
            self.must_have_room(action.host, action.pool)

    def must_be_free(self, machine_id: str, pool: str, states: set[MachineState] | None = None) -> None:
        machine = self.machines[machine_id]
        assert machine.pool == pool
        assert machine.state in (states or {M.WAITING})
        assert machine.job_id is None
        assert (
            machine_id not in self.retirements
            or self.told[machine_id].state is not machine.state
            or (states is not None)
        ), "used although it is to be retired"
        engaged = [a.machine_id for a in self.pending if isinstance(a, Assign)]
        engaged += [ask.machine_id for ask in self.asks.values()]
        assert machine_id not in engaged, "one machine for two purposes"

    def must_have_room(self, host: str, pool: str) -> None:
        """The promise just made is already in the books."""
        facts = self.pools[pool]
        assert host in facts.hosts
        changed = self.hosts[host]
        assert changed.host.usable or (changed.until is not None and self.now >= changed.until)
        assert self.used(host).fits_in(changed.host.capacity), f"over capacity on {host}"
        assert self.count(pool) <= facts.limit, f"over the limit of {pool}"

    # --- the world's own books ---

    def promises(self) -> list[tuple[str, str, Resources]]:
        """Pool, host and room of what is asked for and holds no room as a machine yet."""
        found = [(a.pool, a.host) for a in self.pending if isinstance(a, Refill) or a.machine_id is None]
        for ask in self.asks.values():
            machine = self.machines.get(ask.machine_id or "")
            if ask.promised and (machine is None or not machine.room_held):
                found.append((ask.action.pool, ask.action.host))
        return [(pool, host, self.pools[pool].resources) for pool, host in found]

    def used(self, host: str) -> Resources:
        total = NONE
        for machine in self.machines.values():
            total += machine.resources if machine.room_held and machine.host == host else NONE
        for _, where, room in self.promises():
            total += room if where == host else NONE
        return total

    def count(self, pool: str) -> int:
        held = sum(m.room_held for m in self.machines.values() if m.pool == pool)
        return held + sum(name == pool for name, _, _ in self.promises())

    def without_job(self, pool: str) -> int:
        made = sum(
            m.pool == pool
            and m.job_id is None
            and m.state in {M.CREATING, M.BOOTING, M.WAITING}
            and m.machine_id not in self.retirements
            for m in self.machines.values()
        )
        return made + sum(isinstance(a, Refill) and a.pool == pool for a in self.pending)

    def assigning(self) -> set[int]:
        return {a.job_id for a in self.pending if isinstance(a, Assign)}

    # --- the laws that hold after every event ---

    def check(self) -> None:
        for host in self.hosts:
            assert self.fleet.free(host) == self.hosts[host].host.capacity - self.used(host), (
                "room is lost or made"
            )
        told = reasons(self.fleet)
        for pool in self.pools:
            if any(asking == pool for asking, _ in self.asks):
                assert pool not in told
            else:
                assert told[pool] and told[pool] != "about to ask", f"no reason for {pool}"
        if self.started:
            self.check_homes()
        self.check_scratch()

    def check_homes(self) -> None:
        """No job is without a machine, or one under way, while there is room."""
        for job_id in self.homeless.keys() - self.assigning():
            facts = self.pools[self.homeless[job_id]]
            fits = any(
                host in self.hosts
                and self.fleet.host(host).is_usable(self.now)
                and facts.resources.fits_in(self.fleet.free(host))
                for host in facts.hosts
            )
            assert not (facts.image_ready and fits and self.count(facts.name) < facts.limit), (
                "a job waits in vain"
            )
        owners = Counter(
            m.job_id for m in self.machines.values() if m.job_id is not None and m.state in UNDELIVERED
        )
        assert all(number == 1 for number in owners.values()), "two machines for one job"

    def check_scratch(self) -> None:
        """A fleet that is built anew from the same facts knows the same."""
        scratch = Fleet()
        for event in [*self.hosts.values(), *(PoolChanged(facts, self.now) for facts in self.pools.values())]:
            plan(scratch, event)
        for event in self.told.values():
            plan(scratch, replace(event, at=self.now))
        scratch.now = self.fleet.now
        scratch.started = self.fleet.started
        for name, pool in self.fleet.pools.items():
            fresh = scratch.pool(name)
            for memory in (
                "asked",
                "woken",
                "streak",
                "last_ask_at",
                "last_answer_at",
                "retry_at",
                "retry_reason",
                "failures",
                "failed_until",
                "refill_at",
                "refills",
                "refill_why",
                "wished",
                "wish_fell_at",
                "experience",
                "begun",
                "making_room",
                "stale",
                "expired",
                "look_at",
                "search_at",
            ):
                setattr(fresh, memory, getattr(pool, memory))
            fresh.homeless = dict(pool.homeless)
            for key, claim in pool.claims.items():
                scratch.claim(fresh, key, claim)
        for machine_id in self.fleet.todos:
            if self.fleet.is_leaving(machine_id) and not scratch.is_leaving(machine_id):
                scratch.retire(machine_id, "")
        assert scratch.machines == self.fleet.machines
        assert {name: host.used for name, host in scratch.hosts.items()} == {
            name: host.used for name, host in self.fleet.hosts.items()
        }
        assert scratch.pools == self.fleet.pools
        assert reasons(scratch) == reasons(self.fleet)

    # --- what happens in the world ---

    def new_id(self) -> str:
        self.ids += 1
        return f"fr-{self.ids:012d}"

    def new_job(self) -> int:
        self.jobs += 1
        return self.jobs

    def make(self, pool: str, host: str) -> SimMachine:
        machine = SimMachine(self.new_id(), pool, host, self.pools[pool].resources)
        self.machines[machine.machine_id] = machine
        return machine

    def begin_ask(self, key: tuple[str, int], *, tell: bool) -> None:
        pool, ask = key[0], self.asks[key]
        ask.begun = True
        if ask.machine_id is None:
            ask.machine_id = self.make(pool, ask.action.host).machine_id
        machine = self.machines[ask.machine_id]
        if machine.state is M.RESERVED:
            machine.host, machine.room_held = ask.action.host, True
            machine.resources = self.pools[pool].resources
        if tell or ask.action.machine_id is None:  # a new machine is always told as soon as it holds room
            self.tell_machine(machine)

    def end_ask(self, key: tuple[str, int], outcome: AskOutcome, *, named: bool, machine_first: bool) -> None:
        (pool, number), ask = key, self.asks.pop(key)
        machine = self.machines[ask.machine_id or ""]
        homeless = None
        if outcome is AskOutcome.JOB:
            job_id = self.new_job()
            if machine.state in UNDELIVERED:
                machine.job_id = job_id
            else:
                homeless = job_id
        elif machine.state is M.RESERVED:
            machine.room_held = False
        in_a_row = self.jobs_in_a_row[pool] + 1 if outcome is AskOutcome.JOB else 0
        self.jobs_in_a_row[pool] = max(in_a_row, self.jobs_in_a_row[pool])
        retry_at, why = self.now + 5.0, "GitLab is away"
        ended = AskEnded(pool, number, machine.machine_id, outcome, self.now, retry_at, why)
        if machine.machine_id in self.machines and (machine_first or outcome is not AskOutcome.JOB):
            self.asks[key] = ask  # for the plan it is still in flight
            self.tell_machine(machine, named=named)
            del self.asks[key]
            self.tell(ended)
        else:
            self.tell(ended)
            self.tell_machine(machine, named=named)
        self.jobs_in_a_row[pool] = in_a_row
        if homeless is not None:
            self.lose(homeless, pool)

    def lose(self, job_id: int, pool: str) -> None:
        self.homeless[job_id] = pool
        self.tell(JobHomeless(job_id, pool, self.now))

    def do(self, action: Assign | Refill, *, in_steps: bool, named: bool) -> None:
        self.pending.remove(action)
        if isinstance(action, Refill):
            machine = self.make(action.pool, action.host)
            machine.state = M.CREATING
            self.tell_machine(machine)
            return
        if action.machine_id is not None:
            machine = self.machines.get(action.machine_id)
            if machine is None or machine.state is not M.WAITING:
                self.tell(NotDone(action, self.now))
                return
        else:
            machine = self.make(action.pool, action.host)
            if in_steps:
                self.pending.append(replace(action, machine_id=machine.machine_id))
                self.tell_machine(machine)
                self.pending.remove(replace(action, machine_id=machine.machine_id))
        machine.job_id = action.job_id
        del self.homeless[action.job_id]
        self.tell_machine(machine, named=named or in_steps)

    def catch_up(self) -> None:
        """Do all that is pending, and what follows from that."""
        while self.pending:
            self.do(self.pending[0], in_steps=False, named=True)

    def fail(self, action: Action) -> None:
        if isinstance(action, Ask):
            del self.asks[action.pool, action.number]
            self.jobs_in_a_row[action.pool] = 0
        else:
            self.pending.remove(action)
        self.tell(NotDone(action, self.now, "disk full"))

    def launch(self, machine_id: str) -> None:
        del self.launches[machine_id]
        machine = self.machines[machine_id]
        if machine.state is M.RESERVED:
            self.move(machine, M.CREATING)

    def retire(self, machine_id: str) -> None:
        del self.retirements[machine_id]
        machine = self.machines.get(machine_id)
        if machine is not None and machine.state in UNDELIVERED:
            self.move(machine, M.RETIRING)

    def move(self, machine: SimMachine, to: MachineState) -> None:
        """To its next state; a job that was not delivered is homeless when its machine ends."""
        lost = machine.job_id if to in {M.FAILED, M.RETIRING} and machine.state in UNDELIVERED else None
        machine.state = to
        if to is not M.RESERVED:
            self.launches.pop(machine.machine_id, None)
        if lost is not None:
            machine.job_id = None
        if to is M.GONE:
            del self.machines[machine.machine_id]
            del self.told[machine.machine_id]
            self.tell(MachineRemoved(machine.machine_id, self.now))
            return
        if lost is not None:
            self.homeless[lost] = machine.pool
            self.told_lost(machine, lost)
            return
        self.tell_machine(machine)

    def told_lost(self, machine: SimMachine, job_id: int) -> None:
        pool = self.homeless.pop(job_id)
        self.tell_machine(machine)
        self.lose(job_id, pool)

    def advance(self, machine: SimMachine) -> None:
        if machine.state is M.WAITING and machine.job_id is not None:
            self.move(machine, M.BUSY)
        elif machine.state is M.RETIRING:
            self.move(machine, M.GONE)
        elif machine.state in NEXT:
            self.move(machine, NEXT[machine.state])
