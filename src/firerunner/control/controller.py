"""The loop: one queue of events, one plan, and actors that carry out what the plan says.

Nothing is remembered here that could not be read from the ledger again. Every actor may fail or
be killed: what it left undone is seen by the next sweep, which starts it again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from enum import StrEnum

from firerunner.control.actors import Actors
from firerunner.control.asking import ask, limits
from firerunner.control.context import Context
from firerunner.control.declaring import Declaring
from firerunner.control.failing import fail_machine
from firerunner.control.hosts import heed_operators, look_at_host
from firerunner.control.ids import new_machine_id
from firerunner.control.keeping import keep_jobs
from firerunner.control.launching import launch
from firerunner.control.lost import SURELY_S
from firerunner.control.pacing import rest
from firerunner.control.recovery import recover
from firerunner.control.settling import end
from firerunner.control.showing import Showing
from firerunner.control.sweeping import UNDELIVERED, Sweep
from firerunner.control.watching import Watch
from firerunner.errors import FireRunnerError, ImageError, NotLeader
from firerunner.gate import GateEvent, GuestBootedAgain, GuestEnded, JobDropped, JobFinal, JobGone
from firerunner.intake import Hook
from firerunner.ledger import JobState, MachineRecord, MachineState
from firerunner.planning import (
    Action,
    Ask,
    Assign,
    Event,
    Fleet,
    JobOver,
    Launch,
    MachineMoved,
    NotDone,
    PoolChanged,
    PoolWoken,
    Refill,
    Retire,
    Tick,
    plan,
)
from firerunner.settings import PoolSettings

TICK_S = 0.5
NOT_DONE_PAUSE_S = 2.0
REFILL_AFTER_S = 0.05
GUEST_FIRST_S = 0.01
"""What the gate has seen is acted on when the guest has its answer: it waits, and a pool does not."""
RECORDS_S = 45.0
"""How long a finish waits for GitLab to delete the records of machines that are gone: longer than a call."""
WORLD_EVERY_S = 10.0
PRUNE_EVERY_S = 3600.0


class Stop(StrEnum):
    """How to stop."""

    HAND_OVER = "hand over"  # end asks and launches in flight; machines run on for the next controller
    FINISH = "finish"  # take no more jobs, wait until the last machine is gone


class Controller:
    """The one decider of a FireRunner. `run` returns after a stop that was asked for."""

    def __init__(self, ctx: Context, keep_s: float) -> None:
        self._ctx = ctx
        ctx.post = self.post
        ctx.launch = self._launch_early
        self._keep_s = keep_s
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._fleet = Fleet()
        self.shows = Showing(ctx, self._fleet)
        self._sweep_now = asyncio.Event()
        self._actors = Actors(ctx.clock, ctx.log, self.lose)
        self._sweep = Sweep(ctx, self._actors)
        self._watch = Watch(ctx, self._sweep.retire)
        self._declaring = Declaring(ctx)
        self._stop: Stop | None = None
        self._stop_at = 0.0
        self._records_from = 0.0
        self._started = False
        self._started_actions = 0
        self._lost: BaseException | None = None
        self._asks_left: list[asyncio.Task[None]] = []

    # --- what others tell us -------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Put an event before the plan."""
        self._events.put_nowait(event)
        if isinstance(event, MachineMoved) and event.state in {MachineState.FAILED, MachineState.RETIRING}:
            self._sweep_now.set()

    def wake(self, hook: Hook) -> None:
        """A hook says that there may be work."""
        for pool in self._ctx.pools.declared():
            if pool.gitlab in hook.gitlab and (not pool.projects or hook.project_id in pool.projects):
                self.post(PoolWoken(pool=pool.name, at=self._ctx.clock()))

    def set_pools(self, pools: Mapping[str, PoolSettings]) -> None:
        """These are the pools from now on. What a withdrawn one still has goes on to its end."""
        self._ctx.pools.declare(pools)
        self._declaring.look_at_images()
        self._tell_pools()
        self._sweep_now.set()

    def observe_gate(self, event: GateEvent) -> None:
        """The gate has seen something and written it into the ledger."""
        self._actors.act(self._once("gate"), lambda: self._gate_event(event))

    def request_stop(self, how: Stop) -> None:
        """Stop asking now, and return from `run` when what `how` says is done."""
        self._stop, self._stop_at = how, self._ctx.clock()
        self._tell_pools()
        self._sweep_now.set()

    def lose(self, error: BaseException) -> None:
        """Another leads: end now, and touch nothing more. `run` raises the error."""
        self._lost = self._lost or error
        self._events.put_nowait(None)

    def asks_left(self) -> list[asyncio.Task[None]]:
        """Asks that were in flight when another began to lead: they are not cut off, GitLab may answer."""
        return self._asks_left

    @property
    def events_waiting(self) -> int:
        """Events that the plan has not taken in yet."""
        return self._events.qsize()

    @property
    def stopping(self) -> Stop | None:
        """How it stops, if it does."""
        return self._stop

    @property
    def started(self) -> bool:
        """True once the ledger has been read and the world looked at."""
        return self._started

    # --- the loop ------------------------------------------------------------------------

    async def run(self) -> None:
        """Recover, then decide until a stop is done. Raises NotLeader if another leads."""
        await recover(self._ctx)
        await self._know_the_world()
        observers = [
            asyncio.create_task(keep_jobs(self._ctx), name="keep"),
            asyncio.create_task(self._tick(), name="tick"),
            asyncio.create_task(self._prune(), name="prune"),
            asyncio.create_task(self._watch.run(), name="watch"),
        ]
        for observer in observers:
            observer.add_done_callback(self._observer_ended)
        self._started = True
        try:
            while (event := await self._events.get()) is not None:
                for action in plan(self._fleet, event):
                    self._start(action)
            if self._lost is not None:
                self._asks_left = self._actors.release("ask")
                raise self._lost
            for observer in observers:
                if observer.done() and not observer.cancelled():
                    observer.result()
        finally:
            for observer in observers:
                observer.cancel()
            await asyncio.gather(*observers, return_exceptions=True)
            await self._actors.cancel()

    def _observer_ended(self, observer: asyncio.Task[None]) -> None:
        """An observer only ends by a fault; `run` then raises it, and the next start recovers."""
        if not observer.cancelled():
            if isinstance(error := observer.exception(), NotLeader):
                self.lose(error)
            self._events.put_nowait(None)

    async def _know_the_world(self) -> None:
        await heed_operators(self._ctx)
        await asyncio.gather(*(look_at_host(self._ctx, host) for host in self._ctx.drivers))
        self._declaring.look_at_images()
        self._tell_pools()
        for limited in await limits(self._ctx):
            self.post(limited)
        for machine in await self._ctx.ledger.machines():
            if machine.host in self._ctx.drivers and machine.pool in self._ctx.pools:
                self._ctx.post_machine(machine)

    def _tell_pools(self) -> None:
        for pool in self._ctx.pools.values():
            self._tell_pool(pool)

    def _tell_pool(self, pool: PoolSettings) -> None:
        stopping = self._stop.value if self._stop is not None else None
        self.post(PoolChanged(self._declaring.facts(pool, stopping), at=self._ctx.clock()))

    # --- actors --------------------------------------------------------------------------

    def _start(self, action: Action) -> None:
        if self._stop is Stop.HAND_OVER:
            return  # the next controller reads in the ledger what is to be done
        match action:
            case Ask():
                self._actors.act(self._once("ask"), lambda: self._ask(action))
            case Launch(machine_id=machine_id, pool=pool):
                self._launch(machine_id, pool)
            case Assign():
                self._actors.act(self._once("assign"), lambda: self._reported(action, self._assign(action)))
            case Refill():
                self._actors.act(self._once("refill"), lambda: self._reported(action, self._refill(action)))
            case Retire(machine_id=machine_id, reason=reason):
                self._sweep.retire(machine_id, reason)

    def _launch(self, machine_id: str, pool: str) -> None:
        self._actors.act(machine_id, lambda: launch(self._ctx, machine_id, pool))

    def _launch_early(self, machine: MachineRecord) -> None:
        """What the plan would say a commit later. Not if this controller decides no more."""
        is_deciding = self._stop is not Stop.HAND_OVER and self._lost is None
        if is_deciding and self._fleet.host(machine.host).is_usable(self._ctx.clock()):
            self._launch(machine.machine_id, machine.pool)

    def _once(self, kind: str) -> str:
        """A key of its own: the plan itself sees to it that such an action is not said twice."""
        self._started_actions += 1
        return f"{kind}-{self._started_actions}"

    async def _ask(self, action: Ask) -> None:
        try:  # once more, just before: a job taken for an image that was damaged since would be failed
            pool = self._ctx.pools[action.pool]
            manifest = self._ctx.resolve_image(pool.image).manifest
        except ImageError as error:
            self._declaring.look_at_images()
            self._tell_pool(self._ctx.pools[action.pool])
            self.post(NotDone(action, at=self._ctx.clock(), reason=str(error)))
            return
        await ask(self._ctx, action, manifest.digest, manifest.info_for(pool.executor) or {})

    async def _reported(self, action: Action, work: Awaitable[None]) -> None:
        """Tell the plan if the action came to nothing."""
        try:
            await work
        except FireRunnerError as error:
            self._ctx.log.warning("an action was not done", action=str(action), error=str(error))
            await asyncio.sleep(NOT_DONE_PAUSE_S)  # the plan says it again as soon as it hears of it
            self.post(NotDone(action, at=self._ctx.clock(), reason=str(error)))

    async def _assign(self, action: Assign) -> None:
        """Another machine for a job whose machine died before it was delivered."""
        async with self._ctx.locks[f"job-{action.job_id}"]:  # as `settle` does, which says who is homeless
            job = await self._ctx.ledger.job(action.job_id)
            if job is None or job.state not in UNDELIVERED:
                self.post(JobOver(job_id=action.job_id, pool=action.pool, at=self._ctx.clock()))
                return
            machine_id = action.machine_id or await self._reserve(action.pool, action.host)
            try:
                await self._ctx.ledger.reassign(action.job_id, machine_id)
                self._ctx.wake_gate(machine_id)
            finally:
                await self._post(machine_id)

    async def _refill(self, action: Refill) -> None:
        """A warm machine, without a job; a moment later, because the one before it is just given its job."""
        await asyncio.sleep(REFILL_AFTER_S)
        await launch(self._ctx, await self._reserve(action.pool, action.host), action.pool)

    async def _reserve(self, pool: str, host: str) -> str:
        machine_id = new_machine_id()
        digest = self._declaring.images[pool].manifest.digest
        declared = self._ctx.pools[pool]
        await self._ctx.ledger.reserve(
            machine_id, pool, host, declared.resources, digest, gitlab=declared.gitlab
        )
        return machine_id

    async def _post(self, machine_id: str) -> None:
        machine = await self._ctx.ledger.machine(machine_id)
        if machine is not None:
            self._ctx.post_machine(machine)

    async def _gate_event(self, event: GateEvent) -> None:
        await asyncio.sleep(GUEST_FIRST_S)
        if isinstance(event, JobGone):
            job = await self._ctx.ledger.job(event.job_id)
            if job is not None:
                await end(self._ctx, job, event.job_status, f"GitLab says that it is over ({event.code})")
        elif isinstance(event, JobFinal):
            job = await self._ctx.ledger.job(event.job_id)
            if job is not None:
                self.post(JobOver(job_id=job.job_id, pool=job.pool, at=self._ctx.clock()))
        elif isinstance(event, JobDropped):
            await fail_machine(self._ctx, event.machine_id, "its runner let the job go and asked for another")
        elif isinstance(event, GuestBootedAgain):
            await fail_machine(self._ctx, event.machine_id, "its guest booted a second time")
        if isinstance(event, GuestEnded):
            await self._guest_ended(event.machine_id)
        if event.machine_id is not None:
            await self._post(event.machine_id)

    async def _guest_ended(self, machine_id: str) -> None:
        """Unmake it now: not every host tells that a VMM has ended, and some start it again."""
        job = await self._ctx.ledger.job_of_machine(machine_id)
        if job is not None and job.state in {JobState.ENDED, JobState.RETURNED}:
            self._sweep.retire(machine_id, f"its job ended ({job.gitlab_status})")
        self._watch.now.set()

    # --- observers -----------------------------------------------------------------------

    async def _tick(self) -> None:
        world_at = self._ctx.clock() + WORLD_EVERY_S
        while True:
            began = time.monotonic()
            with self._ctx.outlived("a tick"):
                await heed_operators(self._ctx)
                if self._stop is not Stop.HAND_OVER:
                    await self._sweep.run(finishing=self._stop is Stop.FINISH)
                self.post(Tick(at=self._ctx.clock()))
                if self._ctx.clock() >= world_at:
                    world_at = self._ctx.clock() + WORLD_EVERY_S
                    for host in self._ctx.drivers:
                        await look_at_host(self._ctx, host)
                    self._declaring.look_at_images()
                    self._tell_pools()
                if self._stop is not None and await self._is_stopped():
                    self._events.put_nowait(None)
            self._sweep_now.clear()
            await rest(self._sweep_now, TICK_S, began)

    async def _is_stopped(self) -> bool:
        if self._stop is Stop.HAND_OVER:
            return not len(self._actors)
        machines = await self._ctx.ledger.machines()
        if await self._ctx.ledger.jobs() or any(_is_on_a_host(machine) for machine in machines):
            return False
        now = self._ctx.clock()
        if self._ctx.lost and now - self._stop_at < SURELY_S + RECORDS_S:
            self._records_from = now
        if machines and now - max(self._stop_at, self._records_from) < RECORDS_S:
            return False
        for machine in machines:
            self._ctx.log.error("its record stays in GitLab for now", system_id=machine.machine_id)
        return True

    async def _prune(self) -> None:
        while True:
            try:
                await self._ctx.ledger.prune(self._ctx.clock() - self._keep_s)
            except FireRunnerError as error:
                self._ctx.log.warning("cannot prune the ledger now", error=str(error))
            await asyncio.sleep(PRUNE_EVERY_S)


def _is_on_a_host(machine: MachineRecord) -> bool:
    """False if only its record in GitLab is left."""
    return machine.state is not MachineState.RETIRING or machine.room_held
