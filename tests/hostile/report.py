"""What was seen of one scene, and what the last line says of it."""

from __future__ import annotations

import io
import zipfile
from dataclasses import asdict, dataclass, field
from typing import Any

from firerunner.demo.leftovers import Leftovers, files_of, network_names, processes_of
from firerunner.demo.stage import Stage
from firerunner.fakes.gitlab import FakeGitLab
from firerunner.fakes.gitlab.model import Job
from tests.hostile import attempts
from tests.hostile.leaks import control_groups, lived_in

COUNTED = ("reached", "leaked", "lost", "twice", "neighbours_hurt", "unfinished", "unbounded")
"""All of them have to be 0."""


@dataclass(slots=True)
class Seen:
    """One scene. The lists say what is wrong, one entry for each thing."""

    mode: str
    attempts: dict[str, str]
    visits: list[str]
    hurt: list[str]
    lost: list[str]
    twice: list[str]
    unbounded: list[str]
    most: dict[str, int]
    ends: dict[str, str]
    starts: dict[str, int]
    leaked: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the harness."""
        return {
            "attempts": {f"{self.mode}:{name}": result for name, result in self.attempts.items()},
            "ends": {f"{self.mode}:{name}": end for name, end in self.ends.items()},
            "most": {f"{self.mode}:{name}": size for name, size in self.most.items()},
            "starts": {f"{self.mode}:{name}": count for name, count in self.starts.items()},
            "wrong": {
                "reached": [*attempts.reached(self.attempts, self.mode), *self.visits],
                "leaked": self.leaked,
                "lost": self.lost,
                "twice": self.twice,
                "neighbours_hurt": self.hurt,
                "unfinished": attempts.unfinished(self.attempts),
                "unbounded": self.unbounded,
            },
        }


def last_line(scenes: list[dict[str, Any]]) -> dict[str, Any]:
    """The one JSON object of a run."""
    merged: dict[str, Any] = {
        part: {key: value for scene in scenes for key, value in scene[part].items()}
        for part in ("attempts", "ends", "most", "starts")
    }
    tried = sum(result != attempts.NO_WORD for result in merged["attempts"].values())
    return {
        "tried": tried,
        "attempts": merged["attempts"],
        **{name: sum(len(scene["wrong"][name]) for scene in scenes) for name in COUNTED},
        "ends": merged["ends"],
        "most": merged["most"],
        "starts": merged["starts"],
        "wrong": [f"{name}: {each}" for scene in scenes for name in COUNTED for each in scene["wrong"][name]],
    }


def is_clean(line: dict[str, Any]) -> bool:
    """Whether a run shows nothing wrong, and has tried something."""
    return line["tried"] > 0 and not any(line[name] for name in COUNTED)


def neighbour_is_hurt(gitlab: FakeGitLab, job: Job, nonce: str, mark: str) -> str | None:
    """What is wrong with an honest job, its trace or its artifact; None if nothing is."""
    trace = gitlab.trace(job).replace("\r", "")
    said = [line for line in trace.splitlines() if line.startswith(f"neighbour {nonce}")]
    seconds = int(job.pipeline.variables["SECONDS_LONG"])
    wanted = [f"neighbour {nonce} says {second}" for second in range(1, seconds + 1)]
    if job.status != "success" or job.handed_out != 1:
        return f"{job.name} {job.id}: {job.status} {job.failure_reason}, handed out {job.handed_out} times"
    if said != [*wanted, f"neighbour {nonce} is done"]:
        return f"{job.name} {job.id}: its trace is not what it said"
    if mark in trace or "STRANGER" in trace or job.trace_checksum_ok is False:
        return f"{job.name} {job.id}: somebody else is in its trace"
    with zipfile.ZipFile(io.BytesIO(gitlab.artifact(job))) as files:
        kept = files.read("said.txt").decode()
    return None if kept.splitlines() == wanted else f"{job.name} {job.id}: its artifact is not its own"


async def remains(stage: Stage, names: frozenset[str], networks: set[str]) -> list[str]:
    """What a service that has finished has left: `names` were there before, `networks` are its machines'."""
    left = Leftovers(
        machines=len(await stage.ledger.machines()),
        processes=len(processes_of(stage.directory)),
        managers=len(stage.gitlab.managers()),
        files=len(files_of(stage.settings.state_dir)),
        network=len(network_names() - names),
    )
    found = [f"{name} {count}" for name, count in asdict(left).items() if count]
    found += [f"control group {each}" for each in control_groups(stage.settings.state_dir)]
    found += [] if networks else ["no network of a machine was seen: the next count says nothing"]
    return found + [f"network {each}" for each in lived_in(networks)]
