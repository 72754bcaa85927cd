"""`python -m bench.watched MARKS serve ...`: the service, and a line in MARKS for what passes its doors.

What it is asked (the gate, the webhook's door) and what its driver is busy with gets two times, by the clock
of this computer. What it asks of GitLab is noted by the fake GitLab itself.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.marks import Kind
from firerunner.cli.main import main
from firerunner.gate.app import Gate
from firerunner.intake.door import Door
from firerunner.machines.qemu import QemuDriver

Call = Callable[..., Awaitable[Any]]


def watch(marks: Path) -> None:
    """From now on, write down."""
    file = marks.open("a", buffering=1)

    def note(kind: Kind, at: float, what: str, *, ended: bool, result: str = "") -> None:
        until = time.time() if ended else None
        mark = {"kind": kind, "at": at, "until": until, "what": what, "result": result}
        file.write(json.dumps(mark) + "\n")

    def noted(kind: Kind, call: Call, name: Callable[..., str], *, begin: bool = False) -> Call:
        @functools.wraps(call)
        async def wrapper(self: Any, first: Any, *others: Any) -> Any:
            at = time.time()
            if begin and (what := name(first)):
                note(kind, at, what, ended=False)
            result = None
            try:
                result = await call(self, first, *others)
                return result
            finally:
                if what := name(first):
                    told = result if isinstance(result, str) else ""
                    note(kind, at, what, ended=True, result=told)

        return wrapper

    Gate.__call__ = noted(Kind.GATE, Gate.__call__, _request, begin=True)  # type: ignore[assignment, method-assign]
    Door.endpoint = noted(Kind.HOOK, Door.endpoint, lambda request: request.url.path)  # type: ignore[assignment, method-assign]
    QemuDriver.create = noted(Kind.CREATE, QemuDriver.create, lambda spec: spec.machine_id)  # type: ignore[assignment, method-assign]


def _request(scope: dict[str, Any]) -> str:
    return f"{scope['method']} {scope['path']}" if scope["type"] == "http" else ""


if __name__ == "__main__":
    watch(Path(sys.argv.pop(1)))
    main()
