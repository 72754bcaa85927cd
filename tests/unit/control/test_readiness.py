"""`/ready` says whether a pending job could be taken, and names everything that stands in the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from firerunner.control import Stop
from firerunner.errors import LedgerError
from firerunner.readiness import readiness

pytestmark = pytest.mark.anyio

Faults = dict[str, tuple[set[str], dict[str, str]]]


@dataclass
class Parts:
    """A controller, a sizing and a ledger, as far as readiness looks at them."""

    started: bool = True
    stopping: Stop | None = None
    broken: str = ""
    found: Faults = field(
        default_factory=lambda: {
            "host": ({"local"}, {}),
            "gitlab": ({"one", "two"}, {}),
            "pool": ({"small"}, {}),
        }
    )

    @property
    def shows(self) -> Parts:
        return self

    def faults(self) -> Faults:
        return self.found

    def reasons(self) -> dict[str, str]:
        return {}

    async def interrupted_asks(self) -> list[Any]:
        if self.broken:
            raise LedgerError(self.broken)
        return []


async def judged(parts: Parts) -> tuple[bool, dict[str, str]]:
    state = await readiness(parts, parts, parts)  # type: ignore[arg-type]
    return state.ready, state.reasons


async def test_ready_when_nothing_stands_in_the_way() -> None:
    assert await judged(Parts()) == (True, {})


@pytest.mark.parametrize(
    ("parts", "reasons"),
    [
        (Parts(started=False), {"controller": "starting"}),
        (Parts(stopping=Stop.FINISH), {"controller": "stopping (finish)"}),
        (Parts(broken="disk I/O error"), {"database": "disk I/O error"}),
    ],
)
async def test_not_ready_while_a_part_does_not_work(parts: Parts, reasons: dict[str, str]) -> None:
    assert await judged(parts) == (False, reasons)


@pytest.mark.parametrize(("kind", "name"), [("host", "local"), ("pool", "small")])
async def test_the_only_one_that_does_not_work_is_too_many(kind: str, name: str) -> None:
    parts = Parts()
    parts.found[kind] = ({name}, {name: "broken"})

    assert await judged(parts) == (False, {f"{kind} {name}": "broken"})


async def test_one_working_gitlab_is_enough_and_the_other_is_named() -> None:
    parts = Parts()
    parts.found["gitlab"] = ({"one", "two"}, {"two": "cannot connect"})

    assert await judged(parts) == (True, {"gitlab two": "cannot connect"})


async def test_templates_alone_are_ready() -> None:
    parts = Parts()
    parts.found["gitlab"] = parts.found["pool"] = (set(), {})

    assert await judged(parts) == (True, {})
