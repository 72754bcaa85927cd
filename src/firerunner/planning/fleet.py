"""The fleet as the plan knows it: facts, and indexes that each event changes a little.

Everything here is kept by name, so that an event costs pools, hosts and actions under way: none looks at all
machines. `observing` says what each event means; `plan` decides.
"""

from __future__ import annotations

import heapq
from dataclasses import replace

from firerunner.ledger.states import COMING_MACHINES, MachineState
from firerunner.machines.spec import Resources
from firerunner.planning.entries import NEVER, Chore, Claim, Host, Machine, Pool, Todo

_DEAD = frozenset({MachineState.FAILED, MachineState.RETIRING, MachineState.GONE})


class Fleet:
    """All pools, hosts and machines, and what is under way. Changed by `plan` only."""

    def __init__(self) -> None:
        self.now = NEVER
        """The latest `at` of all events."""
        self.started = False
        """True once a Tick has said that the facts of the start are told; before, nothing is planned."""
        self.pools: dict[str, Pool] = {}
        self.hosts: dict[str, Host] = {}
        self.machines: dict[str, Machine] = {}
        self.todos: dict[str, Todo] = {}
        self._reminders: list[tuple[float, str]] = []
        self._homes: dict[int, str] = {}

    def pool(self, name: str) -> Pool:
        return self.pools.setdefault(name, Pool(name))

    def host(self, name: str) -> Host:
        return self.hosts.setdefault(name, Host(name))

    def free(self, host: str) -> Resources:
        """What is left on a host after all machines and promises."""
        return self.host(host).free

    # Machines

    def put(self, machine: Machine) -> Machine | None:
        """Take in where a machine is now; where it was before."""
        old = self.machines.get(machine.machine_id)
        if old == machine:
            return old
        if old is not None:
            self._unindex(old)
        self._note_health(old, machine)
        if machine.state is MachineState.GONE:
            self.machines.pop(machine.machine_id, None)
            self.todos.pop(machine.machine_id, None)
            return old
        self.machines[machine.machine_id] = machine
        self._keep_todo(old, machine)
        self._index(machine)
        return old

    def remove(self, machine_id: str) -> Machine | None:
        old = self.machines.pop(machine_id, None)
        if old is not None:
            self._unindex(old)
            self.pool(old.pool).begun.pop(machine_id, None)
        self.todos.pop(machine_id, None)
        return old

    def fresh_waiting(self, pool: Pool) -> str | None:
        """The pool's idle machine that has waited longest, of those that are neither outdated nor expired."""
        return next((each for each in pool.idle() if not self._is_past_use(pool, each)), None)

    def _is_past_use(self, pool: Pool, machine_id: str) -> bool:
        if machine_id in pool.expired:
            return True
        return pool.facts is not None and self.machines[machine_id].is_outdated(pool.facts)

    def home_of(self, job_id: int) -> str | None:
        """The live machine that is known to have the job."""
        return self._homes.get(job_id)

    def _index(self, machine: Machine) -> None:
        pool = self.pool(machine.pool)
        if machine.room_held:
            host = self.host(machine.host)
            host.used += machine.resources
            pool.held += 1
        if machine.job_id is not None and machine.state not in _DEAD:
            self._homes[machine.job_id] = machine.machine_id
        if not machine.has_job and not self.is_leaving(machine.machine_id):
            if machine.state is MachineState.WAITING:
                pool.waiting[machine.machine_id] = None
            elif machine.state is MachineState.RESERVED:
                pool.reserved[machine.machine_id] = None
            elif machine.state in COMING_MACHINES:
                pool.coming[machine.machine_id] = None

    def _unindex(self, machine: Machine) -> None:
        pool = self.pool(machine.pool)
        if machine.room_held:
            host = self.host(machine.host)
            host.used -= machine.resources
            pool.held -= 1
        if machine.job_id is not None and self._homes.get(machine.job_id) == machine.machine_id:
            del self._homes[machine.job_id]
        for group in (pool.waiting, pool.reserved, pool.coming):
            group.pop(machine.machine_id, None)

    def _note_health(self, old: Machine | None, new: Machine) -> None:
        pool = self.pool(new.pool)
        if new.state is MachineState.CREATING and old is not None:
            pool.begun.setdefault(new.machine_id, self.now)
        elif new.state not in COMING_MACHINES:
            began = pool.begun.pop(new.machine_id, None)
            if began is not None and new.state in {MachineState.WAITING, MachineState.BUSY}:
                pool.experience.note_boot(self.now - began)
        if old is None or old.state not in COMING_MACHINES:
            return
        if new.state is MachineState.FAILED:
            self.pool(new.pool).note_failure(self.now)
            self.host(new.host).note_failure(self.now)
        elif new.state in {MachineState.WAITING, MachineState.BUSY}:
            self.pool(new.pool).failures = 0
            self.host(new.host).failures, self.host(new.host).shunned_until = 0, NEVER

    # Chores

    def is_leaving(self, machine_id: str) -> bool:
        todo = self.todos.get(machine_id)
        return todo is not None and todo.chore is Chore.RETIRE

    def retire(self, machine_id: str, reason: str) -> None:
        """Do not use the machine any more, and have it retired."""
        machine = self.machines[machine_id]
        self._unindex(machine)
        self.remind(machine_id, Todo(Chore.RETIRE, self.now, reason))
        self._index(machine)

    def remind(self, machine_id: str, todo: Todo) -> None:
        self.todos[machine_id] = todo
        heapq.heappush(self._reminders, (todo.due, machine_id))

    def due_chores(self) -> list[tuple[Machine, Todo]]:
        """Chores whose time has come; each must be given a new time or be dropped."""
        due: list[tuple[Machine, Todo]] = []
        while self._reminders and self._reminders[0][0] <= self.now:
            at, machine_id = heapq.heappop(self._reminders)
            todo = self.todos.get(machine_id)
            if todo is not None and todo.due == at:
                del self.todos[machine_id]
                due.append((self.machines[machine_id], todo))
        for machine, todo in due:
            self.todos[machine.machine_id] = todo
        return due

    def _keep_todo(self, old: Machine | None, new: Machine) -> None:
        todo = self.todos.get(new.machine_id)
        if todo is not None and todo.chore is Chore.RETIRE and old is not None and old.state is new.state:
            return
        if new.state is MachineState.RESERVED and new.has_job and new.room_held:
            if todo is None or todo.chore is not Chore.LAUNCH:
                self.remind(new.machine_id, Todo(Chore.LAUNCH, self.now))
        else:
            self.todos.pop(new.machine_id, None)

    # Actions under way

    def claim(self, pool: Pool, key: str, claim: Claim) -> None:
        """An action begins; the room it was promised counts as used from now on."""
        pool.claims[key] = claim
        if claim.room is not None:
            host = self.host(claim.host)
            host.used += claim.room

    def release(self, pool: Pool, key: str) -> Claim | None:
        """An action is over; room that no machine has taken is free again."""
        claim = pool.claims.pop(key, None)
        if claim is not None and claim.room is not None:
            host = self.host(claim.host)
            host.used -= claim.room
        return claim

    def settle(self, pool: Pool, key: str, machine_id: str) -> None:
        """The action's machine holds the room itself now."""
        claim = self.release(pool, key)
        if claim is not None:
            pool.claims[key] = replace(claim, room=None, machine_id=machine_id)
