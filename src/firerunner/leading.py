"""One term of a leader: the controller, sized runners, and what other controllers have heard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from firerunner.control import Context, Controller, Stop
from firerunner.control.hearsay import Hearer
from firerunner.control.leadership import Leadership
from firerunner.control.sizing import Sizing
from firerunner.errors import LedgerError, NotLeader
from firerunner.gate import Gate

LISTEN_S = 0.25


@dataclass(slots=True)
class Term:
    """Made when a lease is won; `run` returns after a stop that was asked for."""

    context: Context
    controller: Controller
    sizing: Sizing
    hearer: Hearer
    leadership: Leadership
    log: Any

    async def run(self) -> None:
        """Recover and decide. Raises NotLeader when another leads."""
        deciding = asyncio.create_task(self.controller.run(), name="controller")
        beside = [
            asyncio.create_task(self.leadership.keep(), name="lease"),
            asyncio.create_task(self._listen(), name="hearsay"),
            asyncio.create_task(self.sizing.run(), name="sizing"),
        ]
        try:
            await asyncio.wait({deciding, *beside}, return_when=asyncio.FIRST_COMPLETED)
            for task in beside:
                if task.done() and (error := task.exception()) is not None:
                    self.controller.lose(error)
            await deciding
        except asyncio.CancelledError:
            deciding.cancel()
            raise
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(deciding, *beside, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            try:
                await self.hearer.listen()
            except NotLeader:
                raise
            except LedgerError as error:
                self.log.warning("cannot hear other controllers now", error=str(error))
            await asyncio.sleep(LISTEN_S)

    def stop(self, how: Stop) -> None:
        """Begin to end."""
        self.controller.request_stop(how)


async def last_answers(term: Term) -> None:
    """After a lost term: wait for the asks that it had in flight, so that what they bring is kept."""
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*term.controller.asks_left(), return_exceptions=True)


def hearing(context: Context, gate: Gate, hearer: Hearer) -> None:
    """Let the context know what all gates have heard."""
    context.spoke_at = _latest(gate.spoke_at, hearer.spoke_at)
    context.heard_at = _latest(gate.heard_at, hearer.heard_at)


def _latest(*looks: Callable[[str], float]) -> Callable[[str], float]:
    return lambda machine_id: max(look(machine_id) for look in looks)


def new_holder(name: str, pid: int) -> str:
    """What one run of one process is called in the lease."""
    return f"{name}-{pid}-{time.time_ns()}"
