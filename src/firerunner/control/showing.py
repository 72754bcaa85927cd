"""What the plan knows of the fleet, as others are shown it. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping

from firerunner.control.context import Context
from firerunner.machines.spec import Resources
from firerunner.planning import Fleet, Standing, WarmState, blocked, reasons, standing, warm_states
from firerunner.planning.entries import NOTHING


class Showing:
    """The fleet of one controller, at the moment of each call."""

    def __init__(self, ctx: Context, fleet: Fleet) -> None:
        self._ctx = ctx
        self._fleet = fleet

    def reasons(self) -> dict[str, str]:
        """Each pool that does not ask now, and why."""
        return self._of_declared(reasons(self._fleet))

    def warm(self) -> dict[str, WarmState]:
        """How each pool stands with its warm machines."""
        return warm_states(self._fleet)

    def blocked(self) -> dict[str, str]:
        """Those of `reasons` that are not just "no job" or "no room"."""
        return self._of_declared(blocked(self._fleet))

    def faults(self) -> dict[str, tuple[set[str], dict[str, str]]]:
        """For each kind of thing that jobs need: the names of all, and why some of them do not work."""
        pools = self._ctx.pools.declared()
        return {
            "host": (set(self._ctx.drivers), self._ctx.host_troubles | self._ctx.host_faults),
            "gitlab": ({pool.gitlab for pool in pools}, dict(self._ctx.gitlab_faults)),
            "pool": ({pool.name for pool in pools}, self.blocked()),
        }

    def rooms(self) -> dict[str, Resources]:
        """What hosts give out, of those that could be asked the last time."""
        facts = {name: host.facts for name, host in self._fleet.hosts.items()}
        return {name: told.capacity for name, told in facts.items() if told and told.capacity != NOTHING}

    def standing(self) -> Standing:
        """The fleet in numbers."""
        return standing(self._fleet)

    def _of_declared(self, reasons: Mapping[str, str]) -> dict[str, str]:
        return {name: why for name, why in reasons.items() if self._ctx.pools.is_declared(name)}
