"""The one place that says whether a change of state may be written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from firerunner.errors import IllegalTransition, StaleWrite
from firerunner.ledger.states import JobState, MachineState

S = TypeVar("S", MachineState, JobState)


def check(
    subject: str,
    current: S,
    to: S,
    table: Mapping[S, frozenset[S]],
    expect: S | Collection[S] | None = None,
) -> None:
    """Let a legal transition pass.

    `expect` is the state, or the states, in which the writer believes the row to be.
    Raises `StaleWrite` if it is in another one, `IllegalTransition` if the table has no such step.
    """
    if expect is not None:
        expected = {expect} if isinstance(expect, str) else set(expect)
        if current not in expected:
            raise StaleWrite(
                f"{subject} is {current}, not {_words(expected)} as expected, so it did not become {to}",
                remedy="read it again and decide anew",
            )
    legal = table[current]
    if to not in legal:
        raise IllegalTransition(
            f"{subject} cannot go from {current} to {to}; "
            + (f"from {current} it may go to {_words(legal)}" if legal else f"{current} is final")
        )


def _words(states: Collection[str]) -> str:
    return ", ".join(sorted(states)) or "nothing"
