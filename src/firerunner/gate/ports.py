"""What the gate needs from the rest of FireRunner, and no more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from firerunner.gate.events import GateEvent
from firerunner.ledger.records import JobRecord, JournalEntry, MachineRecord
from firerunner.ledger.states import JobState

Clock = Callable[[], float]
"""Unix time in seconds."""

Notify = Callable[[GateEvent], None]
"""Told after the ledger has been written. Must not block."""

Count = Callable[[str, str], None]
"""Called with a subject (`lie`, `refused`, `upstream`, `fault`) and a kind, for the metrics."""


class Sights:
    """Told what the gate measures; this one looks away."""

    def answered(self, activity: str, status: int, received: int, sent: int) -> None:
        """A request is over. `activity`: of `routes.Activity`, or `unknown`; sizes of bodies in bytes."""

    def first_word(self, job_id: int, queued_s: float | None) -> None:
        """The job is `running`; `queued_s` is how long GitLab says it had been pending when it was taken."""

    def first_output(self, job_id: int) -> None:
        """GitLab has the first bytes of its log."""


class GateLedger(Protocol):
    """The part of `firerunner.ledger.Ledger` that the gate uses."""

    async def machine(self, machine_id: str) -> MachineRecord | None: ...

    async def job_of_machine(self, machine_id: str) -> JobRecord | None: ...

    async def move_job(
        self,
        job_id: int,
        to: JobState,
        *,
        reason: str = "",
        gitlab_status: str | None = None,
        failure_reason: str | None = None,
        expect: JobState | Collection[JobState] | None = None,
    ) -> JobRecord: ...

    async def deliver(self, job_id: int) -> tuple[JobRecord, MachineRecord]: ...

    async def boot(self, machine_id: str) -> MachineRecord: ...

    async def note_ended(self, machine_id: str, exit_code: int | None) -> MachineRecord: ...

    async def hold(self, machine_id: str, seconds: float, limit: int) -> float | None: ...

    async def payload(self, job_id: int) -> bytes | None: ...

    async def offered(
        self, machine_id: str
    ) -> tuple[MachineRecord | None, JobRecord | None, tuple[bytes, str] | None]: ...

    async def tied(
        self, machine_id: str
    ) -> tuple[MachineRecord | None, JobRecord | None, str | None, bytes | None]: ...

    async def set_trace_bytes(self, counts: Mapping[int, int]) -> None: ...

    async def note(
        self, subject_kind: str, subject: str, event: str, detail: Mapping[str, Any] | None = None
    ) -> int: ...

    async def journal(
        self, after: int = 0, subject: str | None = None, limit: int = 200
    ) -> list[JournalEntry]: ...


@dataclass(frozen=True, slots=True)
class GuestFacts:
    """What the gate must know of one machine besides the ledger: how its guest sees the world."""

    gate_url: str
    """The gate as this guest reaches it, with `/m/MACHINE_ID` and without a slash at the end."""
    clone_url: str
    """GitLab's own URL as the guest reaches it, for git; else `insteadOf` rules point at the gate."""
    hosts: tuple[tuple[str, str], ...] = ()
    """(address, name) pairs for the guest's /etc/hosts."""
    artifacts_url: str | None = None
    """GitLab's URL if the guest may send and fetch artifacts there itself (307); None: they stream
    through the gate."""
    object_storage: bool = False
    """True if the guest also reaches what GitLab redirects downloads to."""
    ca_pem: str | None = None
    """CA bundle of GitLab for the runner's `tls-ca-file`, which it hands to git as well."""
    gate_ca_pem: str | None = None
    """CA bundle of the gate itself, where guests reach it by HTTPS."""
    trust_pem: str | None = None
    """More certificates that everything in the guest is to trust."""
    runner_config: Mapping[str, Any] = field(default_factory=dict)
    """More keys for `[[runners]]` in config.toml, from the pool."""
    docker_daemon: Mapping[str, Any] = field(default_factory=dict)
    """Keys for the `daemon.json` of the guest's Docker engine."""
    hold_s: float = 0.0
    """How long the machine is kept for a look if its job fails (seconds); 0: not at all."""
    hold_limit: int = 0
    """At most so many machines of its pool are kept at once."""
    proxy_environment: Mapping[str, str] = field(default_factory=dict)
    """The variables that name a proxy, for the runner, its jobs and the Docker engine."""


Facts = Callable[[MachineRecord], GuestFacts]
