"""What all activities of the gate share: the ledger, GitLab, the clock, and whom to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from firerunner.errors import FireRunnerError, GitLabError
from firerunner.gate.events import GateEvent, JobGone
from firerunner.gate.limits import Limits
from firerunner.gate.ports import Clock, Count, Facts, GateLedger, GuestFacts, Notify, Sights
from firerunner.gate.refusals import Kind, Refusal
from firerunner.gitlab.jobs import JobClient
from firerunner.ledger.records import MachineRecord

log = structlog.get_logger("firerunner.gate")


@dataclass(frozen=True, slots=True)
class Desk:
    """Handed to each activity."""

    ledger: GateLedger
    gitlab: Callable[[str], JobClient]
    """The client of this moment for a GitLab's jobs, by its name. Raises GitLabError."""
    facts: Facts
    notify: Notify
    clock: Clock
    count: Count
    limits: Limits
    sights: Sights = field(default_factory=Sights)
    told_gone: set[int] = field(default_factory=set, repr=False)

    def speak_to(self, gitlab: str) -> JobClient:
        """The client for that GitLab's jobs; a guest of one that is not configured has to wait."""
        try:
            return self.gitlab(gitlab)
        except GitLabError as error:
            raise _unknown(gitlab, error) from error

    def facts_of(self, machine: MachineRecord) -> GuestFacts:
        """How its guest sees the world; one of a GitLab or a host that is not configured has to wait."""
        try:
            return self.facts(machine)
        except GitLabError as error:
            raise _unknown(machine.gitlab, error) from error
        except FireRunnerError as error:
            log.error("a guest's facts cannot be had", machine_id=machine.machine_id, error=str(error))
            raise Refusal(503, Kind.FAULT, "its host is not known now", retry_after_s=30) from error

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


def _unknown(gitlab: str, error: GitLabError) -> Refusal:
    log.error("a guest's GitLab is unknown", gitlab=gitlab, error=str(error))
    return Refusal(503, Kind.UPSTREAM, "its GitLab is not known now", retry_after_s=30)
