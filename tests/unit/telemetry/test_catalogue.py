"""The catalogue keeps Prometheus' conventions, and its page says what the code does."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from firerunner.telemetry import Metrics
from firerunner.telemetry.catalogue import ALL, Declared, Kind
from firerunner.telemetry.reference import reference

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
FEW = {
    "activity", "answer", "detail", "directory", "door", "endpoint", "gitlab", "host", "kind", "operation",
    "outcome", "pool", "result", "right", "start", "state", "status", "version",
}  # fmt: skip
"""Labels whose values are few, whatever runs."""


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "run `make reference`"


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.name)
def test_a_metric_is_named_explained_and_bounded(each: Declared) -> None:
    assert re.fullmatch(r"firerunner_[a-z0-9_]+", each.name)
    assert each.name.endswith("_total") == (each.kind is Kind.COUNTER)
    assert each.name.endswith("_seconds") or each.kind is not Kind.HISTOGRAM
    assert each.text.endswith(".")
    assert set(each.labels) <= FEW
    assert all(f"`{label}`" in reference() for label in each.labels)


def test_what_is_declared_passes_prometheus_own_check() -> None:
    metrics = Metrics()
    metrics.read_at_scrape(
        lambda: [(each, ("x",) * len(each.labels), 1.0) for each in ALL if each.kind is Kind.SCRAPED]
    )
    metrics.read()
    for each in ALL:
        if each.kind is Kind.COUNTER:
            metrics.count(each, *("x",) * len(each.labels))
        elif each.kind is Kind.HISTOGRAM:
            metrics.observe(each, 1.0, *("x",) * len(each.labels))
        elif each.kind is Kind.GAUGE:
            metrics.set(each, 1.0, *("x",) * len(each.labels))

    said = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics.exposition(), capture_output=True, check=False
    )

    assert (said.returncode, said.stdout + said.stderr) == (0, b"")
