"""What others wrote is shown without what a terminal or a browser would obey, and in bounds."""

from __future__ import annotations

import pytest

from firerunner.web.dashboard.text import (
    MOST,
    MOST_COLUMNS,
    MOST_LINES,
    console,
    lasting,
    mebibytes,
    moment,
    plain,
)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("build \U0001f680", "build \U0001f680"),
        ("a\x00b\x1b[31mc\nd", "a\ufffdb\ufffd[31mc\ufffdd"),
        ("user\u202egnp.exe", "user\ufffdgnp.exe"),
        ("zero\u200bwidth", "zero\ufffdwidth"),
        ("half \ud83d", "half \ufffd"),
        ("x" * (MOST + 1), "x" * MOST + "…"),
    ],
)
def test_a_value_is_one_plain_line(said: str, shown: str) -> None:
    assert plain(said) == shown


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"", ""),
        (b"one\r\ntwo\r\n", "one\ntwo"),
        (b"\x1b[32;1mgreen\x1b[0m \x1b[2J\x1b[10;20Hx", "green x"),
        (b"\x1b]0;title\x07a\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "alink"),
        (b"\x1bPq#0;2;0\x1b\\a\x1b(Bb\x1bc", "ab"),
        (b"10 %\r20 %\r100 %\n", "100 %"),
        (b"a\tb", "a       b"),
        (b"\xff\xfe\x00\x07", "\ufffd" * 4),
        (b"cut short \x1b[3", "cut short 3"),
        (b"<script>", "<script>"),
    ],
)
def test_a_console_is_what_a_terminal_would_leave(raw: bytes, shown: str) -> None:
    assert console(raw) == shown


def test_a_flood_is_cut() -> None:
    lines = console(b"x" * 100_000 + b"\n" * 5000 + b"\x1b[" * 50_000 + b"last\n").split("\n")

    assert len(lines) <= MOST_LINES
    assert all(len(line) <= MOST_COLUMNS + 1 for line in lines)


def test_amounts_are_told_as_people_read_them() -> None:
    assert [lasting(seconds) for seconds in (-1, 0.04, 9.96, 119, 120, 7200, 200_000)] == [
        *("0.0 s", "0.0 s", "10.0 s", "119 s", "2 min", "2 h", "2 d")
    ]
    assert [mebibytes(amount) for amount in (512, 10_240)] == ["512 MiB", "10 GiB"]
    assert [moment(at) for at in (0, 1e300)] == ["1970-01-01T00:00:00Z", "?"]
