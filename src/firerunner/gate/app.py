"""The gate's ASGI application: who is let in, which activity answers, and how every error ends."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from firerunner.errors import LedgerError
from firerunner.gate import guest
from firerunner.gate.checks import Ties
from firerunner.gate.delivery import Delivery
from firerunner.gate.desk import Desk, log
from firerunner.gate.exchange import ClientGone, Exchange
from firerunner.gate.limits import Buckets, Limits, Turnstile
from firerunner.gate.looking import Looks
from firerunner.gate.ports import Clock, Count, Facts, GateLedger, Notify, Sights
from firerunner.gate.refusals import LIES, Kind, Refusal
from firerunner.gate.relay import Relay
from firerunner.gate.routes import Activity, Route, route
from firerunner.gate.story import Story
from firerunner.gate.upstream import BrokenOff, Upstream
from firerunner.gitlab.jobs import JobClient
from firerunner.gitlab.wire import uncounted

_STRANGER = frozenset({Kind.UNKNOWN_MACHINE, Kind.WRONG_CREDENTIAL, Kind.WRONG_TOKEN, Kind.OTHER_JOB})
"""Refusals of someone who may not be the machine at all. They have a common budget for each machine
id; once it is used up the answer is 429."""

_SECRETS = (b"job-token", b"runner-token", b"authorization")


class Gate:
    """An ASGI app. `ready` is off at first: every path answers 503 until control has read the ledger."""

    def __init__(self, desk: Desk) -> None:
        self.ready = False
        self._desk = desk
        self._ties = Ties(desk)
        self._relay = Relay(desk, self._ties, Upstream(desk), Story(desk, self._ties))
        self._delivery = Delivery(desk)
        self.looks = Looks(desk)
        limits = desk.limits
        self._calls = Buckets(limits.requests_per_s, limits.burst, limits.remembered)
        self._strangers = Buckets(limits.requests_per_s, limits.burst, limits.remembered)
        self._turnstile = Turnstile(limits.concurrent)
        self._noted: OrderedDict[tuple[str, Kind], None] = OrderedDict()

    def open(self) -> None:
        """The ledger may be relied on: serve."""
        self._delivery.closing = False
        self.looks.open()
        self.ready = True

    def wake(self, machine_id: str) -> None:
        """Control has written something about this machine or its job: look again."""
        self._ties.doubt(machine_id)
        self._delivery.bell.ring(machine_id)

    def close(self) -> None:
        """Going down: held asks are answered with 503 at once, and so is all that still comes."""
        self.ready = False
        self._delivery.closing = True
        self._delivery.bell.ring_all()
        self.looks.close()

    def spoke_at(self, machine_id: str) -> float:
        """When the machine's runner last spoke about its job (Unix seconds); 0 if not since our start."""
        return self._ties.spoke_at(machine_id)

    def heard_at(self, machine_id: str) -> float:
        """When GitLab last answered it about its job (Unix seconds); 0 if not since our start."""
        return self._ties.heard_at(machine_id)

    def spoken(self) -> dict[str, tuple[float, float]]:
        """Machine id → how long ago, in seconds, its runner spoke and GitLab answered it; only lately."""
        return self._ties.spoken()

    def held_asks(self) -> int:
        """How many asks wait for their job now."""
        return self._delivery.bell.held()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(Exchange(scope, receive, send))
        elif scope["type"] == "lifespan":
            await _live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _serve(self, exchange: Exchange) -> None:
        where = route(exchange.method, exchange.path)
        try:
            await self._refuse_or(exchange, where)
        except ClientGone:
            self._desk.count("guest", "hung_up")
        except BrokenOff:
            self._desk.count("guest", "broken_off")
        finally:
            activity = where.activity if where is not None else "unknown"
            self._desk.sights.answered(activity, exchange.status, exchange.received, exchange.sent)

    async def _refuse_or(self, exchange: Exchange, where: Route | None) -> None:
        try:
            await self._let_in(exchange, where)
        except Refusal as refusal:
            await self._refuse(exchange, where, refusal)
        except LedgerError:
            log.exception("the ledger failed", path=exchange.path)
            no_ledger = Refusal(503, Kind.LEDGER, "the ledger does not answer", retry_after_s=2)
            await self._refuse(exchange, where, no_ledger)
        except (ClientGone, BrokenOff):
            raise
        except Exception:
            self._desk.count("fault", "gate")
            log.exception("the gate failed", path=exchange.path)
            fault = Refusal(500, Kind.FAULT, "this is a fault of the gate")
            await self._refuse(exchange, where, fault)

    async def _let_in(self, exchange: Exchange, where: Route | None) -> None:
        if not self.ready:
            raise Refusal(503, Kind.STARTING, "the gate is starting", retry_after_s=1)
        if where is None:
            raise Refusal(404, Kind.NOT_FOUND, "there is nothing here for a guest")
        if where.activity is Activity.DISCOVER:
            raise Refusal(501, Kind.NOT_OFFERED, "there is no job router")
        # Who presents another secret has another budget: a liar cannot use up that of a machine.
        name = f"{where.machine_id} {_presented(exchange)}"
        wait_s = self._calls.take(name, time.monotonic())
        if wait_s:
            raise Refusal(429, Kind.TOO_OFTEN, "too many requests", retry_after_s=wait_s)
        with self._turnstile.inside(name):
            await self._answer(exchange, where)

    async def _answer(self, exchange: Exchange, where: Route) -> None:
        machine_id, job_id = where.machine_id, where.job_id or 0
        match where.activity:
            case Activity.TRACE:
                await self._relay.trace(exchange, machine_id, job_id)
            case Activity.UPDATE:
                await self._relay.update(exchange, machine_id, job_id)
            case Activity.UPLOAD:
                await self._relay.upload(exchange, machine_id, job_id)
            case Activity.DOWNLOAD:
                await self._relay.download(exchange, machine_id, job_id)
            case Activity.ASK:
                await self._delivery.ask(exchange, machine_id)
            case Activity.BOOTED:
                await guest.booted(self._desk, exchange, machine_id)
            case Activity.LOOK:
                await self.looks.ask(exchange, machine_id)
            case Activity.ENDED:
                await guest.ended(self._desk, exchange, machine_id, self._ties.drop)

    async def _refuse(self, exchange: Exchange, where: Route | None, refusal: Refusal) -> None:
        self._desk.count("refused", refusal.kind)
        if where is not None and refusal.kind in LIES:
            await self._remember_lie(where, refusal)
        if exchange.started:
            raise BrokenOff
        if where is not None and refusal.kind in _STRANGER:
            wait_s = self._strangers.take(where.machine_id, time.monotonic())
            if wait_s:
                refusal = Refusal(429, Kind.TOO_OFTEN, "too many wrong requests", retry_after_s=wait_s)
        limits = self._desk.limits
        patient = where is not None and where.activity is Activity.UPLOAD and refusal.kind not in LIES
        await exchange.refuse(
            refusal,
            drain_bytes=limits.drain_bytes if patient else limits.refused_drain_bytes,
            drain_s=limits.drain_s if patient else limits.refused_drain_s,
        )

    async def _remember_lie(self, where: Route, refusal: Refusal) -> None:
        """Counted each time; in the journal and the log once for each machine and kind."""
        self._desk.count("lie", refusal.kind)
        key = (where.machine_id, refusal.kind)
        if key in self._noted:
            return
        self._noted[key] = None
        if len(self._noted) > self._desk.limits.remembered:
            self._noted.popitem(last=False)
        told = {"kind": refusal.kind.value, "activity": where.activity.value, "message": refusal.message}
        log.warning("a guest is refused", machine_id=where.machine_id, **told)
        if refusal.kind is Kind.UNKNOWN_MACHINE:
            # Whoever makes ids up does not get to fill the journal.
            return
        try:
            await self._desk.ledger.note("machine", where.machine_id, "refused", told)
        except LedgerError:
            self._desk.count("fault", "ledger")


def create_gate(
    *,
    ledger: GateLedger,
    gitlab: Callable[[str], JobClient],
    facts: Facts,
    notify: Notify,
    clock: Clock = time.time,
    count: Count = uncounted,
    limits: Limits | None = None,
    sights: Sights | None = None,
) -> Gate:
    """The gate. Call its `open` once the ledger may be relied on.

    `gitlab` gives what speaks for the jobs of a GitLab, by its name, and raises GitLabError for one that
    is not configured; its HTTP client should have a pool as large as the number of machines times two.
    `facts` says how a machine's guest sees the world. `notify` is told each event after it has been
    written down, and must not block.
    """
    return Gate(Desk(ledger, gitlab, facts, notify, clock, count, limits or Limits(), sights or Sights()))


def _presented(exchange: Exchange) -> str:
    secrets = [value for name, value in exchange.raw_headers if name in _SECRETS]
    return hashlib.sha256(b"\n".join(secrets)).hexdigest()


async def _live(receive: Receive, send: Send) -> None:
    """The server's lifespan protocol; the gate needs nothing of it."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
