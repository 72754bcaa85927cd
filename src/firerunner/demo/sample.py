"""The sample project of the demo and what each of its jobs has to come to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from typing import Final

PROJECT: Final = "demo/sample"

_FACTS = re.compile(r"guest_kernel=(?P<guest_kernel>\S+) vcpu=(?P<vcpu>\d+) memory_mib=(?P<memory_mib>\d+)")
_IDENTITY = re.compile(r"machine=(?P<machine>fr-\w+) nonce=(?P<nonce>\w+)")


@dataclass(frozen=True, slots=True)
class Expected:
    """How a job has to end: GitLab's status and failure reason of each of its runs, in order."""

    ends: tuple[tuple[str, str | None], ...]
    in_trace: str
    """Text that the last run's trace must hold."""


EXPECTED: Final = {
    "build": Expected((("success", None),), "words=23"),
    "test-words": Expected((("success", None),), "the count is right"),
    "test-exit-3": Expected((("failed", "script_failure"),), "this one fails on purpose"),
    "test-artifact": Expected((("success", None),), "the artifact of build is here"),
    "slow": Expected((("canceled", None),), "after_script ran for nonce="),
    "orphan": Expected((("failed", "runner_system_failure"), ("success", None)), "done"),
    "unhooked": Expected((("success", None),), "nobody told FireRunner about me"),
}


@dataclass(frozen=True, slots=True)
class Pool:
    """One of the demo's two sizes."""

    name: str
    vcpu: int
    memory_mib: int


POOLS: Final = (Pool("small", 1, 256), Pool("large", 2, 384))
POOLS_ON_HOSTS: Final = (Pool("small", 1, 1024), Pool("large", 2, 1536))
"""Flintlock makes no smaller ones."""

ORPHAN_ON_HOSTS_S: Final = 60
"""How long the orphan works where its whole host is to be lost."""


@dataclass(frozen=True, slots=True)
class GuestFacts:
    """What a job's trace says about the guest it ran in; None where it says nothing."""

    guest_kernel: str | None = None
    vcpu: int | None = None
    memory_mib: int | None = None
    machine: str | None = None
    nonce: str | None = None


def project_files() -> dict[str, str]:
    """The files of the sample repository."""
    folder = resources.files("firerunner.demo") / "files"
    names = {"gitlab-ci.yml": ".gitlab-ci.yml"}
    return {names.get(file.name, file.name): file.read_text() for file in folder.iterdir() if file.is_file()}


def read_trace(trace: str) -> GuestFacts:
    """Find what the sample's before_script has printed."""
    text = trace.replace("\r", "")
    facts, identity = _FACTS.search(text), _IDENTITY.search(text)
    return GuestFacts(
        guest_kernel=facts and facts["guest_kernel"],
        vcpu=int(facts["vcpu"]) if facts else None,
        memory_mib=int(facts["memory_mib"]) if facts else None,
        machine=identity and identity["machine"],
        nonce=identity and identity["nonce"],
    )
