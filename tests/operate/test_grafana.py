"""The Grafana dashboard as Grafana takes it: defaults, grid, variables. No Grafana is needed."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

from firerunner.telemetry.catalogue import ALL

FILE = Path(__file__).parents[2] / "deploy" / "grafana" / "firerunner.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
LABELS = {each.name: set(each.labels) for each in ALL}
BY_PROMETHEUS = {"instance", "job"}
SELECTED = re.compile(r"(firerunner_\w+?)(?:_bucket|_sum|_count)?\b(?:\{([^}]*)\})?(?=[\s\[)/]|$)")


def test_no_panel_lies_on_another_or_beyond_the_grid() -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        across, down = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        return {(x, y) for x in across for y in down}

    taken = [(panel["title"], cells(panel)) for panel in DASHBOARD["panels"]]

    assert [(one, other) for (one, a), (other, b) in combinations(taken, 2) if a & b] == []
    assert all(x < 24 for _, those in taken for x, _ in those)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_each_panel_says_what_it_shows_in_which_unit_and_out_of_which_data() -> None:
    incomplete = [
        panel["title"]
        for panel in PANELS
        if not panel["description"] or not panel["fieldConfig"]["defaults"].get("unit")
    ]
    sources = {each["datasource"]["uid"] for each in [*PANELS, *(target for _, target in TARGETS)]}

    assert incomplete == []
    assert sources == {"${datasource}"}


def test_no_number_is_coloured_by_thresholds_of_grafanas_own() -> None:
    """Without thresholds Grafana takes its own: green, and red from 80 on, whatever is counted."""
    stats = [panel for panel in PANELS if panel["type"] == "stat"]

    assert [each["title"] for each in stats if not each["fieldConfig"]["defaults"].get("thresholds")] == []


def test_what_is_told_by_pool_goes_by_the_pool_that_is_chosen() -> None:
    deaf = [
        (title, name)
        for title, target in TARGETS
        for name, matchers in SELECTED.findall(target["expr"])
        if "pool" in LABELS[name] and 'pool=~"$pool"' not in matchers
    ]

    assert deaf == []
    assert {name for _, target in TARGETS for name, _ in SELECTED.findall(target["expr"])} > {
        "firerunner_machines",
        "firerunner_job_start_seconds",
    }


def test_a_legend_names_only_labels_that_its_query_leaves() -> None:
    lost = []
    for title, target in TARGETS:
        kept = re.findall(r"\bby \(([^)]*)\)", target["expr"])
        names = {name for name, _ in SELECTED.findall(target["expr"])}
        left = (
            set(re.split(r",\s*", kept[0]))
            if kept
            else BY_PROMETHEUS.union(*(LABELS[name] for name in names))
        )
        lost += [
            (title, label)
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            if label not in left
        ]

    assert lost == []


def test_what_is_drawn_is_drawn_from_zero_on() -> None:
    drawn = [panel for panel in PANELS if panel["type"] == "timeseries"]

    assert [each["title"] for each in drawn if each["fieldConfig"]["defaults"].get("min") != 0] == []
