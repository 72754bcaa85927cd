"""The harness itself, in short: a hostile job gets nowhere, and where a safeguard is off that is noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.attempts import TRIED, orders, reached, results
from tests.hostile.report import COUNTED

HERE = Path(__file__).parent


def harness(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Its exit status, and the last line of what it says."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.hostile", "--seed", "7", *arguments],
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
        cwd=HERE.parents[1],
    )
    assert run.returncode in {0, 1}, run.stdout[-3000:] + run.stderr[-3000:]
    return run.returncode, json.loads(run.stdout.splitlines()[-1])


@pytest.mark.vm
@pytest.mark.timeout(600)
def test_a_hostile_job_gets_nowhere() -> None:
    status, line = harness("--quick", "--mode", "relay")

    assert {name: line[name] for name in COUNTED} == dict.fromkeys(COUNTED, 0), line["wrong"]
    assert status == 0
    assert line["tried"] == len(line["attempts"]) - list(line["attempts"].values()).count("no word") > 80


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 switches it on: it takes two minutes")
@pytest.mark.vm
@pytest.mark.timeout(600)
def test_a_link_that_leads_to_the_host_is_noticed() -> None:
    status, line = harness(
        *("--mode", "relay", "--switch-off", "link", "--tries", "control-gate,loopback-by-gateway")
    )

    assert line["attempts"]["relay:loopback-by-gateway"] == "canary-loopback"
    assert line["reached"] > 0
    assert status == 1


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 switches it on: it takes two minutes")
@pytest.mark.vm
@pytest.mark.timeout(600)
def test_a_gate_that_believes_everyone_is_noticed() -> None:
    status, line = harness(
        *("--mode", "relay", "--switch-off", "credentials", "--tries", "control-gate,other-ended")
    )

    # Whoever comes first, from the guest or from the host, ends the neighbour's machine.
    assert "204" in {line["attempts"][f"relay:{name}"] for name in ("other-ended", "outside-other-machine")}
    assert line["reached"] > 0
    assert line["neighbours_hurt"] > 0
    assert status == 1


def test_each_try_is_in_the_script() -> None:
    script = (HERE / "job.sh").read_text()

    assert [each.name for each in TRIED if f"        {each.name}) " not in script] == []


def test_the_order_is_the_seed_s() -> None:
    assert orders("relay", 1) == orders("relay", 1) != orders("relay", 2)
    assert orders("relay", 1, {"lan"}) == (["lan"], [])


def test_what_is_not_known_to_be_harmless_counts_as_reached() -> None:
    trace = "noise\r\nTRY lan closed\r\nTRY metadata canary-metadata\nTRY gate-root 500\n"

    found = results(trace)

    assert found == {"lan": "closed", "metadata": "canary-metadata", "gate-root": "500"}
    assert reached(found, "relay") == ["metadata", "gate-root"]
