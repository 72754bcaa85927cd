"""Pure: what a driver sees on a host, set against what the ledger knows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from firerunner.ledger import MachineRecord, MachineState
from firerunner.machines.spec import Sighting

EXPECTED = frozenset({MachineState.BOOTING, MachineState.WAITING, MachineState.BUSY})
BRAKE_COUNT = 5
BRAKE_SHARE = 0.3

UNDELIVERED = frozenset({MachineState.CREATING, MachineState.BOOTING, MachineState.WAITING})
LOST_S = 15.0
"""A daemon that is restarted is back sooner."""
LOST_BUSY_S = 90.0
"""A runner is heard at least every 60 s: GitLab's X-GitLab-Trace-Update-Interval of jobs that nobody watches
(reference: gitlab.md 3.5)."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at one host has shown."""

    dead: Mapping[str, str]
    """Machine id → what the driver knows about its end."""
    leaked: frozenset[str]
    """Ids that carry our mark but are not in the ledger, or are gone there."""
    brake: str | None = None
    """If set: too many have vanished at once for this to be believed; `dead` has none of those."""
    held: frozenset[str] = frozenset()
    """Machines whose absence is not believed yet."""


def compare(
    seen: Sequence[Sighting],
    known: Collection[MachineRecord],
    may_brake: bool = True,
    held: frozenset[str] = frozenset(),
) -> Findings:
    """Compare one host's sightings with the ledger's machines of that host (those that are not gone).

    `known` must have been read before `seen`: a machine made in between is then no leak,
    because the caller acts on a leak only when two looks in a row have shown it. Many that vanish at once are
    not believed to be dead, and neither is a machine with a job on a host that shows nothing at all: a host
    that has lost its list looks the same. `held`: machines whose
    absence was not believed at the last look; as long as one of them is absent, that goes on, also when
    the others have ended meanwhile.
    """
    by_id = {sighting.machine_id: sighting for sighting in seen}
    expected = [machine.machine_id for machine in known if machine.state in EXPECTED]
    vanished = frozenset(expected) - frozenset(by_id)
    dead = {
        machine_id: by_id[machine_id].detail or "the VMM ended"
        for machine_id in expected
        if machine_id in by_id and not by_id[machine_id].alive
    }
    leaked = frozenset(by_id) - {machine.machine_id for machine in known}
    many = len(vanished) >= BRAKE_COUNT and len(vanished) >= BRAKE_SHARE * len(expected)
    blank = not seen and any(_has_work(machine) for machine in known)
    if may_brake and (many or blank or vanished & held):
        brake = f"{len(vanished)} of {len(expected)} machines have vanished, without a trace on their host"
        return Findings(dead, leaked, brake, vanished)
    gone = dict.fromkeys(sorted(vanished), "the machine vanished from its host")
    return Findings(dead | gone, leaked)


def _has_work(machine: MachineRecord) -> bool:
    return machine.state is MachineState.BUSY and machine.ended_reported_at is None


def lost(
    known: Collection[MachineRecord], spoke: Mapping[str, float], silent_since: float, now: float
) -> dict[str, MachineState]:
    """The machines of a host that cannot be reached since then which are to be given up, and their states.

    The job of one that has not got it yet gets another machine soon; one with a job may run on without its
    host's daemon, and is given up only when its runner is silent too. `spoke`: when each one's runner last
    spoke (Unix seconds).
    """
    gone = {}
    for machine in known:
        if machine.state in UNDELIVERED:
            since, patience_s = max(silent_since, machine.state_since), LOST_S
        elif machine.state is MachineState.BUSY:
            last_word = max(machine.state_since, spoke.get(machine.machine_id, 0.0))
            since, patience_s = max(silent_since, last_word), LOST_BUSY_S
        else:
            continue
        if now - since > patience_s:
            gone[machine.machine_id] = machine.state
    return gone
