"""Tables of commands on terminals of any width: what people copy stands in one piece."""

from __future__ import annotations

import pytest
from rich.console import Console

from firerunner.cli.output import print_table

MACHINE = "fr-0123456789ab"
COLUMNS = ("machine", "pool", "host", "state", "for", "vCPU", "MiB", "job", "reason")
ROW = (MACHINE, "small", "local", "reserved", "31 s", 2, 4096, 1001, "its job ended (success)")


@pytest.mark.parametrize("width", [80, 100, 160])
def test_an_id_is_not_broken_into_lines(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("firerunner.cli.output.out", Console(width=width))

    print_table("machines", COLUMNS, [ROW])

    shown = capsys.readouterr().out
    assert MACHINE in shown
    assert "reserved" in shown
    assert max(map(len, shown.splitlines())) <= width


def test_a_machines_id_is_the_last_to_be_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("firerunner.cli.output.out", Console(width=60))

    print_table("jobs", ("job", "project", "machine", "reason"), [(1001, "g/" * 20, MACHINE, "it is so")])

    assert MACHINE in capsys.readouterr().out


@pytest.mark.parametrize("width", [20, 40])
def test_nothing_is_lost_where_there_is_no_room(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("firerunner.cli.output.out", Console(width=width))

    print_table("machines", COLUMNS[:3], [(MACHINE * 3, "small", "x" * 30)])

    letters = sorted(
        "".join(capsys.readouterr().out.split()).replace("\N{BOX DRAWINGS LIGHT HORIZONTAL}", "")
    )
    assert letters == sorted(f"machinepoolhost{MACHINE * 3}small{'x' * 30}")
