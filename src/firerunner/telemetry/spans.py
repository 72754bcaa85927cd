"""What a trace is made of, and how its parts find each other without being told.

A job's trace and its root are numbered by the job itself, so that every controller, and one that was
restarted, adds to the same trace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch of time in a job's life. Times are Unix seconds."""

    gitlab: str
    job_id: int
    """With `gitlab`, whose trace it belongs to."""
    name: str
    start: float
    end: float
    attributes: Mapping[str, Value] = field(default_factory=dict)
    is_root: bool = False
    is_call: bool = False
    """True for a call that leaves this process."""
    failed: bool = False


def trace_number(gitlab: str, job_id: int) -> int:
    """128 bits (W3C Trace Context), never 0."""
    return int.from_bytes(_digest(gitlab, job_id)[:16], "big") or 1


def root_number(gitlab: str, job_id: int) -> int:
    """64 bits, never 0."""
    return int.from_bytes(_digest(gitlab, job_id)[16:24], "big") or 1


def _digest(gitlab: str, job_id: int) -> bytes:
    return hashlib.sha256(f"firerunner {gitlab} {job_id}".encode()).digest()
