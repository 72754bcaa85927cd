"""What the exit status of a command means."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class Exit(IntEnum):
    """The same for all commands."""

    DONE = 0
    FAILED = 1
    WRONG = 2
    AGAIN = 75
    INTERRUPTED = 130


MEANING: Final[Mapping[Exit, str]] = {
    Exit.DONE: "it is done, and for a check: nothing is wrong",
    Exit.FAILED: "not done, or a check has found something; standard error says what, and the remedy",
    Exit.WRONG: "wrong usage, or a wrong configuration; nothing has been done",
    Exit.AGAIN: "`serve` only: a second signal ended it at once; the next start goes on from the ledger",
    Exit.INTERRUPTED: "Ctrl-C; nothing is said",
}
