"""Whether jobs can be taken now: database, hosts, GitLab and pools, each with its reason if not."""

from __future__ import annotations

import asyncio

from firerunner.control import Controller
from firerunner.control.sizing import Sizing
from firerunner.errors import LedgerError
from firerunner.ledger import Ledger
from firerunner.web import Readiness

DATABASE_PATIENCE_S = 2.0


async def readiness(controller: Controller, sizing: Sizing, ledger: Ledger) -> Readiness:
    """Ready means: a job that is pending now can be taken. One working host, GitLab and pool are enough;
    what does not work is named all the same."""
    reasons: dict[str, str] = {}
    if not controller.started:
        reasons["controller"] = "starting"
    elif controller.stopping is not None:
        reasons["controller"] = f"stopping ({controller.stopping.value})"
    database = await _database(ledger)
    if database:
        reasons["database"] = database
    ready = not reasons
    for kind, (names, faults) in controller.shows.faults().items():
        reasons |= {f"{kind} {name}": why for name, why in faults.items() if name in names}
        ready = ready and (not names or bool(names - set(faults)))  # templates alone have no pools yet
    return Readiness(ready=ready, reasons=reasons, pools=controller.shows.reasons() | sizing.reasons())


async def _database(ledger: Ledger) -> str:
    try:
        async with asyncio.timeout(DATABASE_PATIENCE_S):
            await ledger.interrupted_asks()
    except LedgerError as error:
        return error.message
    except TimeoutError:
        return f"it has not answered for {DATABASE_PATIENCE_S:.0f} s"
    return ""


async def standing_by(leader: str, ledger: Ledger) -> Readiness:
    """For a controller that does not lead: gate and webhook work if the database does."""
    reasons = {"controller": f"stands by; {leader or 'nobody'} leads"}
    database = await _database(ledger)
    if database:
        reasons["database"] = database
    return Readiness(ready=not database, reasons=reasons, pools={})
