"""What a bench leaves behind: a table for people, and a document from which others judge it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.rows import Row, as_json
from firerunner.cli.output import print_table

Facts = dict[str, Any]
FORMAT = 1


def document(name: str, facts: Facts, rows: Sequence[Row], took_s: float) -> dict[str, Any]:
    """`NAME.json`: facts of the machine, and each row with its samples and its goal as data."""
    return {
        "format": FORMAT,
        "bench": name,
        "machine": facts,
        "took_s": round(took_s, 1),
        "rows": [as_json(row) for row in rows],
    }


def write(path: Path, found: dict[str, Any]) -> None:
    """Write it whole or not at all."""
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(found, indent=2) + "\n")
    beside.replace(path)


def show(name: str, rows: Sequence[Row]) -> None:
    """The table on standard output."""
    print_table(
        name,
        ("measure", "value", "floor", "unit", "ratio", "goal", "met"),
        [
            (
                row.measure,
                _number(row.value),
                _number(row.floor),
                row.unit,
                "" if row.ratio is None else f"{row.ratio:.2f}",
                row.goal,
                {True: "yes", False: "NO", None: ""}[row.ok],
            )
            for row in rows
        ],
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if abs(value) < 1 else f"{value:,.3f}"
