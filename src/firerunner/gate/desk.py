"""What all activities of the gate share: the ledger, GitLab, the clock, and whom to tell."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from firerunner.gate.events import GateEvent, JobGone
from firerunner.gate.limits import Limits
from firerunner.gate.ports import Clock, Count, Facts, GateLedger, Notify
from firerunner.gitlab.jobs import JobClient

log = structlog.get_logger("firerunner.gate")


@dataclass(frozen=True, slots=True)
class Desk:
    """Handed to each activity."""

    ledger: GateLedger
    gitlab: JobClient
    facts: Facts
    notify: Notify
    clock: Clock
    count: Count
    limits: Limits
    told_gone: set[int] = field(default_factory=set, repr=False)

    def tell(self, event: GateEvent) -> None:
        """Notify control. Its troubles are not the guest's: they are logged and counted."""
        try:
            self.notify(event)
        except Exception:
            self.count("fault", "notify")
            log.exception("the listener failed", gate_event=type(event).__name__)

    def tell_gone(self, job_id: int, machine_id: str, code: int, job_status: str | None) -> None:
        """`JobGone`, once for each job: a guest may make GitLab say it again every few seconds."""
        if job_id in self.told_gone:
            return
        if len(self.told_gone) >= self.limits.remembered:
            self.told_gone.clear()
        self.told_gone.add(job_id)
        log.warning("a job is gone", job_id=job_id, machine_id=machine_id, code=code, job_status=job_status)
        self.tell(JobGone(job_id, machine_id, code, job_status))
