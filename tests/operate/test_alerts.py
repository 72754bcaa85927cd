"""Alerts: Prometheus' own tool judges rules and their cases; each has a page that says what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "firerunner.rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
CASES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "firerunner.rules.test.yaml").read_text())["tests"]


@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "prometheus.yaml"),
        ("check", "rules", "firerunner.rules.yaml"),
        ("test", "rules", "firerunner.rules.test.yaml"),
    ],
    ids=" ".join,
)
def test_promtool_is_content(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_is_shown_firing_and_not_and_says_what_users_feel(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    cases = {case["name"]: case["promql_expr_test"][0] for case in CASES}

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert cases[f"{name} fires"]["exp_samples"]
    assert cases[f"{name} is quiet"]["exp_samples"] == []
    assert name in cases[f"{name} fires"]["expr"]
    assert name in cases[f"{name} is quiet"]["expr"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_has_its_page(rule: dict[str, Any]) -> None:
    page = (ROOT / rule["annotations"]["runbook"]).read_text()

    assert page.startswith(f"# {rule['alert']}\n")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == [
        "What it means",
        "How to see it",
        "What to do",
    ]


def test_there_is_no_page_without_an_alert_and_none_is_missing_in_the_list() -> None:
    pages = {page.stem for page in (ROOT / "docs" / "runbook").glob("*.md")} - {"index"}
    listed = set(re.findall(r"\((\w+)\.md\)", (ROOT / "docs" / "runbook" / "index.md").read_text()))

    assert pages == listed == {rule["alert"] for rule in RULES}
