"""The two projects of a scene: an honest one, and a hostile one with a job for each way to end badly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

HERE = Path(__file__).parent

LAST_WORDS_OF: Final = {
    "hostile": ("flood-trace",),
    "greedy": ("second-ask",),
    "again": ("second-boot",),
    "quitter": ("early-end", "after-end"),
}
"""What the hostile jobs say at their end."""


@dataclass(frozen=True, slots=True)
class Measure:
    """How much of everything."""

    parts: tuple[str, ...]
    """The hostile jobs, by what they are in job.sh."""
    timeout_s: int
    """Of the hostile job that tries everything, and of the bomb."""
    neighbour_s: int
    flood: int
    """Requests of each flood of the gate."""
    flood_s: int
    """How long the console is flooded, with 100 MB at most."""
    trace_bytes: int
    end_by: str = "stay"
    """`stop`: the hostile job stops its runner as well, so that only the service can end it."""


FULL: Final = Measure(
    ("hostile", "leaky", "greedy", "again", "quitter", "bomb"), 420, 300, 1000, 40, 1_500_000, "stop"
)
QUICK: Final = Measure(("hostile", "leaky", "greedy"), 150, 100, 240, 6, 200_000)
GLANCE: Final = Measure(("hostile", "leaky"), 45, 30, 80, 3, 100_000)
"""For a few tries by name."""


def honest_files() -> dict[str, str]:
    """The neighbour's repository; `late` is the same job once more, after the attack."""
    job = {
        "tags": ["small"],
        "script": ["sh neighbour.sh"],
        "artifacts": {"paths": ["said.txt"]},
        "dependencies": [],
    }
    return {
        "neighbour.sh": (HERE / "neighbour.sh").read_text(),
        ".gitlab-ci.yml": yaml.safe_dump({"neighbour": job}),
    }


def hostile_files(measure: Measure) -> dict[str, str]:
    """The hostile repository. Each job has a timeout of its own; none would end by itself."""
    jobs: dict[str, Any] = {
        part: {
            "tags": ["small"],
            "timeout": measure.timeout_s if part == "hostile" else 90,
            "variables": {"PART": part},
            "script": ["sh job.sh"],
        }
        for part in measure.parts
    }
    return {"job.sh": (HERE / "job.sh").read_text(), ".gitlab-ci.yml": yaml.safe_dump(jobs)}
