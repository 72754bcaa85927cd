"""Which hosts could ever make a pool's machines; a pool that none could serve must not ask for a job."""

from __future__ import annotations

from typing import NamedTuple

from firerunner.control.context import Context
from firerunner.errors import GitLabError
from firerunner.images import Image
from firerunner.settings import PoolSettings


class Fitting(NamedTuple):
    """The hosts that fit, and why there is none if so."""

    hosts: tuple[str, ...]
    why_none: str | None


def fitting_hosts(ctx: Context, pool: PoolSettings, image: Image | None) -> Fitting:
    """What the drivers say to the pool's size, egress and image."""
    hosts = tuple(host for host in pool.hosts or ctx.drivers if host in ctx.drivers)
    if not hosts:
        return Fitting((), "its hosts are not in force yet: restart the service")
    try:
        egress = ctx.egress(pool)
    except GitLabError:  # of a pool that is withdrawn: its machines are there already
        return Fitting(hosts, None)
    files = image.files if image is not None else None
    refusals = {host: ctx.drivers[host].refusal(pool.resources, egress, files) for host in hosts}
    fit = tuple(host for host, why in refusals.items() if why is None)
    return Fitting(fit or hosts, None if fit else refusals[hosts[0]])
