"""One line of the log for each change of state, written once it is committed."""

from __future__ import annotations

import logging
from typing import Any

import structlog

from firerunner.ledger.moves import JobMove, MachineMove, Move
from firerunner.ledger.states import JobState, MachineState

_SAD = frozenset({f"machine {MachineState.FAILED}", f"job {JobState.RETURNED}"})


class Telling:
    """An onlooker that every ledger has."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("firerunner.ledger")

    def moved(self, move: Move) -> None:
        """The line names job, machine, host, pool and project; what is not known is left out."""
        event, facts = _of_machine(move) if isinstance(move, MachineMove) else _of_job(move)
        known = {name: value for name, value in facts.items() if value not in {None, ""}}
        self._log.log(logging.WARNING if event in _SAD else logging.INFO, event, **known)

    def took(self, operation: str, seconds: float, *, failed: bool) -> None:
        """No matter for the log."""


def _of_machine(move: MachineMove) -> tuple[str, dict[str, Any]]:
    machine = move.machine
    return f"machine {machine.state}", {
        "was": move.was,
        "machine": machine.machine_id,
        "pool": machine.pool,
        "host": machine.host,
        "job": machine.job_id,
        "project": machine.project_path,
        "reason": machine.reason,
    }


def _of_job(move: JobMove) -> tuple[str, dict[str, Any]]:
    job, before = move.job, move.machine
    return f"job {job.state}", {
        "was": move.was,
        "job": job.job_id,
        "name": job.name,
        "project": job.project_path,
        "pool": job.pool,
        "host": job.host or (before and before.host),
        "machine": job.machine_id or (before and before.machine_id),
        "reason": job.reason,
        "gitlab_status": job.gitlab_status,
        "failure_reason": job.failure_reason,
    }
