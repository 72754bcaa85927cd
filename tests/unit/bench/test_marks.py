"""What the watched service writes down is read as it grows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.marks import Kind, Marks


def line(**facts: Any) -> str:
    return json.dumps({"kind": "gate", "at": 1.0, "until": None, "what": "", "result": ""} | facts) + "\n"


def test_lines_are_read_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "marks"
    marks = Marks(path)
    assert marks.all() == []

    later = line(what="second")
    path.write_text(line(what="first") + later[:10])
    assert [mark.what for mark in marks.all()] == ["first"]

    path.write_text(line(what="first") + later)
    assert [mark.what for mark in marks.all()] == ["first", "second"]


def test_what_is_still_going_on_is_not_done_and_what_was_held_is(tmp_path: Path) -> None:
    path = tmp_path / "marks"
    path.write_text(
        line(what="held", at=1.0, until=9.0) + line(what="old", until=4.0) + line(what="open", at=6.0)
    )

    assert [mark.what for mark in Marks(path).done(since=5.0)] == ["held"]


def test_a_machine_s_ask_and_start_are_found(tmp_path: Path) -> None:
    path = tmp_path / "marks"
    path.write_text(
        line(kind=Kind.CREATE, what="fr-a", until=2.0, result="restored")
        + line(what="POST /m/fr-a/api/v4/jobs/request")
    )
    marks = Marks(path)

    assert (marks.asked("fr-a"), marks.asked("fr-b")) == (True, False)
    assert (marks.started("fr-a"), marks.started("fr-b")) == ("restored", "")
