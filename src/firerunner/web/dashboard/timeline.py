"""The states of a job and of its machines in time, out of the journal's rows. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from firerunner.ledger import JobState, JournalEntry, MachineState

_OVER = frozenset({JobState.ENDED, JobState.RETURNED, MachineState.GONE})
LEAST_PERCENT = 0.4
"""So that a state that lasted a moment is still seen."""


@dataclass(frozen=True, slots=True)
class Span:
    """One state, for as long as it lasted."""

    state: str
    begin: float
    """Unix seconds."""
    end: float
    left: float
    """Percent of the whole time."""
    width: float
    goes_on: bool

    @property
    def seconds(self) -> float:
        """How long."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Lane:
    """All states of one subject."""

    kind: str
    subject: str
    spans: tuple[Span, ...]
    over: str | None
    """The last state of something that is over."""


def lanes(rows: Collection[JournalEntry], subjects: Iterable[tuple[str, str]], now: float) -> list[Lane]:
    """One for each (kind, subject) that has a state, all to one scale from the first state to the last."""
    moves = {
        named: [row for row in rows if (row.subject_kind, row.subject) == named and row.to_state in _STATES]
        for named in subjects
    }
    times = [row.at for those in moves.values() for row in those]
    if not times:
        return []
    going_on = any(those and those[-1].to_state not in _OVER for those in moves.values())
    first, last = min(times), max(*times, now if going_on else 0.0)
    return [
        _lane(kind, subject, those, first, last) for (kind, subject), those in moves.items() if len(those) > 0
    ]


_STATES = frozenset(state.value for state in (*JobState, *MachineState))


def _lane(kind: str, subject: str, moves: list[JournalEntry], first: float, last: float) -> Lane:
    whole = max(last - first, 0.001)
    shown = [row for row in moves if row.to_state not in _OVER]
    ends = [*(row.at for row in moves[1:]), last][: len(shown)]
    spans: list[Span] = []
    free = 0.0
    for number, (row, until) in enumerate(zip(shown, ends, strict=True)):
        end = max(until, row.at)
        # Side by side: a later one over it would hide what lasted a moment.
        latest = 100 - LEAST_PERCENT * (len(shown) - number)
        left = min(max(100 * (row.at - first) / whole, free), latest)
        free = min(max(100 * (end - first) / whole, left + LEAST_PERCENT), latest + LEAST_PERCENT)
        spans.append(Span(str(row.to_state), row.at, end, left, free - left, row is moves[-1]))
    over = moves[-1].to_state if moves[-1].to_state in _OVER else None
    return Lane(kind, subject, tuple(spans), over)
