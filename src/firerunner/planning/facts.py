"""What the plan is told about pools and hosts."""

from __future__ import annotations

from dataclasses import dataclass

from firerunner.machines.spec import Resources
from firerunner.planning.warm import WarmRule


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """One pool, as declared by the operator, and whether it may ask."""

    name: str
    resources: Resources
    """The room that one machine takes."""
    hosts: tuple[str, ...]
    """Where its machines may run; the first is preferred when hosts are equally full."""
    limit: int
    """At most so many machines at a time, of all states that hold room."""
    warm: WarmRule
    """Which number of machines is kept without a job."""
    check_interval_s: float
    """Seconds from an answer that found nothing to the next ask, if nobody wakes the pool."""
    image_ready: bool
    runner: str = ""
    """Tells one runner token from another: a refusal of the old one says nothing of a new one."""
    warm_age_s: float = float("inf")
    """No machine waits longer; most of them up to a quarter less, each its own time."""
    image: str = ""
    """The digest of what machines are made of now."""
    baked: str = ""
    """Tells one set of what a guest is given at its boot, such as the runner's options, from another."""
    packed: bool = False
    """True: on the fullest host that has room; else on the emptiest."""
    paused_reason: str | None = None
    """Set while the pool may not ask or refill: by an operator, while stopping, ..."""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """One host and all it has, machines or not."""

    name: str
    capacity: Resources
    usable: bool
    """False while no new machine may be placed there. Machines that are there go on."""
    reason: str = ""
    """Why it is not usable."""
