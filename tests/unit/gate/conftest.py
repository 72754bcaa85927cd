"""A gate between a guest and a GitLab double, all on real loopback sockets, over a real ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from gate_given import GitLabDouble, World, serving, usual_facts

from firerunner.gate import GateEvent, GuestFacts, Limits, create_gate
from firerunner.gitlab import JobClient, new_http
from firerunner.ledger import Keyring, Ledger, MachineRecord


@dataclass
class HeldClock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def limits() -> Limits:
    """Small enough to be reached; a test may override it."""
    return Limits(json_body_bytes=4096, trace_patch_bytes=64 * 1024, hold_s=60, drain_s=5)


@pytest.fixture
async def world(anyio_backend: str, tmp_path: Path, clock: HeldClock, limits: Limits) -> AsyncIterator[World]:
    ledger = await Ledger.open(
        f"sqlite:///{tmp_path / 'ledger.db'}", Keyring.load_or_create(tmp_path / "keys"), clock
    )
    events: list[GateEvent] = []
    counts: list[tuple[str, str]] = []
    facts: dict[str, GuestFacts] = {}
    gitlab = GitLabDouble()

    def facts_of(machine: MachineRecord) -> GuestFacts:
        return facts.get(machine.machine_id) or usual_facts(machine)

    async with serving(gitlab) as gitlab_url, new_http() as upstream:
        jobs = JobClient(gitlab_url, upstream)
        gate = create_gate(
            ledger=ledger,
            gitlab=lambda name: jobs,
            facts=facts_of,
            notify=events.append,
            clock=clock,
            count=lambda subject, kind: counts.append((subject, kind)),
            limits=limits,
        )
        gate.ready = True
        async with (
            serving(gate) as gate_url,
            httpx.AsyncClient(base_url=gate_url, trust_env=False, timeout=20) as http,
        ):
            yield World(ledger, gate, gitlab, gate_url, gitlab_url, events, counts, facts, http)
    await ledger.aclose()
