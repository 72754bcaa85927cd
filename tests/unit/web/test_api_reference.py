"""The reference of the API says what the code does."""

from __future__ import annotations

from pathlib import Path

from firerunner.web.reference import reference

PAGE = Path(__file__).parents[3] / "docs" / "api-reference.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "run `make reference`"


def test_every_call_and_every_field_is_explained() -> None:
    lines = reference().splitlines()
    rows = [line for line in lines if line.startswith("| `")]

    assert len(rows) > 80
    assert [line for line in rows if line.endswith("|  |")] == []
    assert sum(line.startswith("### POST") for line in lines) == 8
