"""Makes what guests, jobs and projects say fit to be shown: no control sequences, no hidden text, in bounds.

It does not escape: templates do, all of them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

MOST = 300
"""Characters of one value on a page."""
MOST_LINES = 200
MOST_COLUMNS = 500
_DIGEST = len("sha256:") + 12

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
"""Controls, what turns or hides text, and halves of characters, which UTF-8 cannot say."""
_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # OSC, DCS, ...: titles, links
    r"|\x1b[ -/]*[0-~]"
)


def plain(value: object, most: int = MOST) -> str:
    """One line of at most `most` characters."""
    text = str(value)
    shown = _UNSEEN.sub("\ufffd", text[:most])
    return f"{shown}…" if len(text) > most else shown


def console(raw: bytes) -> str:
    """The last lines on a console, as a terminal would leave them."""
    text = _SEQUENCE.sub("", raw.decode(errors="replace")).replace("\r\n", "\n")
    lines = [line.rstrip("\r").rpartition("\r")[2].expandtabs(8) for line in text.split("\n")]
    return "\n".join(plain(line.rstrip(), MOST_COLUMNS) for line in lines[-MOST_LINES:]).strip("\n")


def moment(at: float) -> str:
    """A time as ISO 8601, for machines and titles."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "?"


def day_and_time(at: float) -> str:
    """A time for people who look at it within the year, in UTC."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%b %d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "?"


def digest(value: str) -> str:
    """As it is, but enough of a digest to tell it from others."""
    return f"{value[:_DIGEST]}…" if value.startswith("sha256:") else value


def lasting(seconds: float) -> str:
    """A duration, as short as it is useful."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    return f"{whole // 3600} h" if whole < 172_800 else f"{whole // 86_400} d"


def mebibytes(amount: int) -> str:
    """An amount of memory or disk."""
    return f"{amount} MiB" if amount < 10_240 else f"{amount / 1024:.0f} GiB"
