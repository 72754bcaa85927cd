"""Picks the host for a new machine: the emptiest of those where it fits, or the fullest."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from firerunner.machines.spec import Resources
from firerunner.planning.entries import Host

_KINDS = (("vCPU", "vcpu"), ("MiB memory", "memory_mib"), ("MiB disk", "disk_mib"))
SHOWN_HOSTS = 3


def pick(
    names: Collection[str],
    hosts: Mapping[str, Host],
    need: Resources,
    now: float,
    avoid: Collection[str] = (),
    *,
    packed: bool = False,
) -> str | None:
    """The usable host with the smallest part in use (`packed`: the largest), the first named if equal; None
    if it fits nowhere. One where machines have just failed to boot comes after all others."""
    best: tuple[tuple[bool, float], str] | None = None
    for name in names:
        host = hosts.get(name)
        if host is None or name in avoid or not host.is_usable(now) or not need.fits_in(host.free):
            continue
        part = _part_used(host)
        cost = (now < host.shunned_until, -part if packed else part)
        if best is None or cost < best[0]:
            best = (cost, name)
    return best[1] if best else None


def could_ever_fit(host: Host | None, need: Resources, now: float) -> bool:
    """True if the host has room for it when empty."""
    return (
        host is not None
        and host.facts is not None
        and host.is_usable(now)
        and need.fits_in(host.facts.capacity)
    )


def explain(names: Collection[str], hosts: Mapping[str, Host], need: Resources, now: float) -> str:
    """Why it fits nowhere, host by host, for operators."""
    if not names:
        return "no room: it has no host"
    told = [_explain_host(name, hosts.get(name), need, now) for name in list(names)[:SHOWN_HOSTS]]
    more = len(names) - len(told)
    return "no room: " + "; ".join(told) + (f"; and {more} more hosts" if more else "")


def _explain_host(name: str, host: Host | None, need: Resources, now: float) -> str:
    if host is None or host.facts is None:
        return f"host {name} is not known yet"
    if not host.is_usable(now):
        until = f", next try in {host.unusable_until - now:.0f} s" if host.unusable_until else ""
        return f"host {name} is not usable: {host.facts.reason or 'no reason given'}{until}"
    for unit, kind in _KINDS:
        needed, free = getattr(need, kind), getattr(host.free, kind)
        if needed > free:
            capacity = getattr(host.facts.capacity, kind)
            return f"host {name} has {max(free, 0)} of {capacity} {unit}, needs {needed}"
    return f"host {name} has room"


def _part_used(host: Host) -> float:
    assert host.facts is not None  # noqa: S101  (it is usable)
    used, capacity = host.used, host.facts.capacity
    return max(
        used.vcpu / max(1, capacity.vcpu),
        used.memory_mib / max(1, capacity.memory_mib),
        used.disk_mib / max(1, capacity.disk_mib),
    )
