"""Reads what `bench.watched` has written: when the service was asked something, and when it had answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    """Where it was noted."""

    GATE = "gate"  # a guest's call: `METHOD PATH`
    HOOK = "hook"  # a webhook
    CREATE = "create"  # the driver makes a machine: its id


@dataclass(frozen=True, slots=True)
class Mark:
    """One call. Times are Unix seconds."""

    kind: Kind
    at: float
    until: float | None
    """When it was answered whole; None for the line that tells of its beginning."""
    what: str
    result: str = ""
    """What the driver's `create` has returned: `cold` or `restored`, where it says."""


class Marks:
    """The file, read on as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._all: list[Mark] = []

    def all(self) -> list[Mark]:
        """Every mark so far, in the order in which they were written."""
        if self._path.exists():
            with self._path.open() as file:
                file.seek(self._read)
                for line in iter(file.readline, ""):
                    if not line.endswith("\n"):
                        break  # it is still being written
                    self._read += len(line)
                    self._all.append(_mark(line))
        return self._all

    def done(self, since: float) -> list[Mark]:
        """Those that were answered and began at that time or later, or were held then and answered later."""
        return [mark for mark in self.all() if mark.until is not None and mark.until >= since]

    def started(self, machine_id: str) -> str:
        """How the driver says that it has started the machine; empty if it does not say."""
        return next(
            (mark.result for mark in self.all() if mark.kind is Kind.CREATE and mark.what == machine_id), ""
        )

    def asked(self, machine_id: str) -> bool:
        """Whether the machine's runner has asked for a job."""
        path = f"POST /m/{machine_id}/api/v4/jobs/request"
        return any(mark.what == path for mark in self.all())


def _mark(line: str) -> Mark:
    found = json.loads(line)
    return Mark(Kind(found["kind"]), found["at"], found["until"], found["what"], found["result"])
