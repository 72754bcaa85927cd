"""Dashboard and alerts name what a real run exports, in queries that Prometheus understands."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from firerunner.images import Image
from tests.scene.controllers import scene

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "firerunner.json").read_text())
RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "firerunner.rules.yaml").read_text())
OF_GRAFANA = {"$__rate_interval": "5m", "$pool": ".*"}
"""What Grafana puts in place of its variables."""
VARIABLE = re.compile(r"\$\w+")
NAME = re.compile(r"\b(?:firerunner|process)_[a-z0-9_]+\b")
PARTS = re.compile(r"_(?:bucket|sum|count)$")


def dashboard_queries() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["expr"]


def alert_queries() -> Iterator[str]:
    for group in RULES["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def named(query: str) -> set[str]:
    return set(NAME.findall(query))


def test_each_query_of_the_dashboard_parses(tmp_path: Path) -> None:
    rules = []
    for number, query in enumerate(dashboard_queries()):
        filled = VARIABLE.sub(lambda found: OF_GRAFANA[found[0]], query)
        rules.append({"record": f"panel:{number}", "expr": filled})
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(rules) > 30


SUCCEEDED = 'firerunner_jobs_total{outcome="success",pool="small"} 2.0'


async def test_a_real_run_exports_what_dashboard_and_alerts_name(image: Image) -> None:
    async with scene(None, image, 1, pool={"warm": 1}) as it:
        await it.start_all()
        await it.ended(await it.run_jobs(2))
        url = f"http://127.0.0.1:{it.controllers[0].web}/metrics"
        async with httpx.AsyncClient(trust_env=False) as http:

            async def counted() -> str | None:
                """The ledger learns of an end after GitLab does."""
                said = (await http.get(url)).text
                return said if SUCCEEDED in said else None

            text = await it.until(counted)

    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    queries = [*dashboard_queries(), *alert_queries()]
    unknown = {
        name
        for query in queries
        for name in named(query)
        if name not in types and types.get(PARTS.sub("", name)) != "histogram"
    }
    assert unknown == {"firerunner_thinpool_used_ratio"}, "that one is told by a host's own script"
    outputs = re.findall(r"^firerunner_job_pending_to_output_seconds_count\{.*\} (\S+)$", text, re.MULTILINE)
    assert sum(map(float, outputs)) == 2
    assert re.search(
        r'^firerunner_machines\{host="kvm-1",pool="small",state="\w+"\} [1-9]', text, re.MULTILINE
    )
    assert "firerunner_leader 1.0" in text
