"""gate: trace patches a second and artifact MiB a second through the gate, beside the same calls direct.

Gate, upstream and client are processes of their own (`gate_service`, `gate_fake` or `gate_upstream`, and this
one with the client of `load`), so that none waits for another's turn in one event loop. Patches go to the
fake GitLab, and for a harder floor to an upstream that runs by the gate's own server with next to nothing
behind it, as artifacts do: the gate stands before each with a ledger in its file. Both ways are asked by the
same client in turn. Two cores hold three processes: what the gate adds is the CPU time of all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from bench import load
from bench.gate_parts import DEPENDENCY, DOWNLOAD_BYTES, MACHINES, job_token, machine_name
from bench.load import Request
from bench.rows import Row, measured
from firerunner.cli.output import errors

ROUNDS = 9
PATCHES, CONNECTIONS = 400, 16
UPLOADS, DOWNLOADS = 1, 1
UPLOAD_PIECES = 256
PATCH = bytes(1024)
MIB = 1024 * 1024
PATCHES_AT_LEAST, STREAMED_AT_LEAST, REDIRECTED_AT_LEAST, GROWN_AT_MOST_MIB = 0.5, 0.7, 0.95, 8.0


@dataclass(slots=True)
class Figures:
    """Of each round: patches a second, MiB a second."""

    patches: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    uploads: list[float] = field(default_factory=list)
    downloads: list[float] = field(default_factory=list)


async def measure() -> list[Row]:
    """Both ways in turn, `ROUNDS` times each; the first round of all is not counted."""
    direct, through, redirected = Figures(), Figures(), list[float]()
    fake, before_fake = list[float](), list[float]()
    async with (
        process("bench.gate_upstream") as upstream,
        process("bench.gate_service", upstream.url) as gate,
        process("bench.gate_fake") as gitlab,
        process("bench.gate_service", gitlab.url) as gate_of_fake,
    ):
        traces = Counter[int]()
        for turn in range(ROUNDS + 1):
            errors.print(f"gate: round {turn} of {ROUNDS}")
            if turn == 1:
                direct, through, redirected = Figures(), Figures(), []
                fake, before_fake = [], []
                full_mib = rss_mib(gate.pid)
            fake.append(await _to_fake(gitlab.url, traces, through=False))
            before_fake.append(await _to_fake(gate_of_fake.url, traces, through=True))
            for url, within, figures in ((upstream.url, _nowhere, direct), (gate.url, _in_gate, through)):
                patches, took = await load.rate(
                    url, partial(_patches, within), connections=CONNECTIONS, expect=202
                )
                figures.patches.append(patches)
                figures.took += took
                async with load.connected(url, 1) as (line,):
                    figures.uploads.append(await _upload(line, within(turn)))
                    figures.downloads.append(await _download(line, within(turn)))
            redirected.append(await _redirected(gate.url, upstream.url))
        grown_mib = rss_mib(gate.pid) - full_mib
    streamed_mib = ROUNDS * (UPLOADS * UPLOAD_PIECES * len(load.PIECE) + DOWNLOADS * DOWNLOAD_BYTES) / MIB
    return [
        _row("trace patches a second, beside the fake GitLab", before_fake, fake, PATCHES_AT_LEAST),
        measured("  beside a server that does nothing", through.patches, direct.patches, unit="a second"),
        Row("  p99 of one, seconds", load.quantile(through.took, 0.99), load.quantile(direct.took, 0.99)),
        _row("artifacts up, MiB a second", through.uploads, direct.uploads, STREAMED_AT_LEAST),
        _row("artifacts down, MiB a second", through.downloads, direct.downloads, STREAMED_AT_LEAST),
        _row("  by a redirect", redirected, direct.downloads, REDIRECTED_AT_LEAST),
        Row(
            f"MiB that the gate grew in {streamed_mib:,.0f} MiB and {ROUNDS * PATCHES:,} patches",
            grown_mib,
            None,
            None,
            f"at most {GROWN_AT_MOST_MIB:.0f}",
            grown_mib <= GROWN_AT_MOST_MIB,
        ),
    ]


def _nowhere(_number: int) -> str:
    return ""


def _in_gate(number: int) -> str:
    return f"/m/{machine_name(number)}"


def _row(measure: str, ours: list[float], bare: list[float], at_least: float) -> Row:
    ratio = median(our / their for our, their in zip(ours, bare, strict=True))
    goal = f"at least {at_least} times"
    return Row(measure, median(ours), median(bare), ratio, goal, ratio >= at_least)


async def _to_fake(url: str, traces: Counter[int], *, through: bool) -> float:
    """Each patch goes on where its job's trace ends: the fake knows every one of them."""

    def patches() -> Iterator[Request]:
        for number in range(PATCHES):
            machine = number % (MACHINES - 1)
            job = machine + 1 if through else MACHINES + machine + 1
            start = traces[job]
            traces[job] += len(PATCH)
            within = f"/m/{machine_name(machine)}" if through else ""
            yield _patch(f"{within}/api/v4/jobs/{job}/trace", job_token(job - 1), start)

    a_second, _ = await load.rate(url, patches, connections=CONNECTIONS, expect=202)
    return a_second


def _patch(path: str, token: str, start: int) -> Request:
    headers = {
        "Job-Token": token,
        "Content-Type": "text/plain",
        "Content-Range": f"{start}-{start + len(PATCH) - 1}",
    }
    return Request("PATCH", f"{path}?debug_trace=false", headers, PATCH)


def _patches(within: Callable[[int], str]) -> Iterator[Request]:
    for number in range(PATCHES):
        machine = number % (MACHINES - 1)
        yield _patch(f"{within(machine)}/api/v4/jobs/{machine + 1}/trace", job_token(machine), 0)


async def _upload(line: load.Connection, within: str) -> float:
    number = _number(within)
    headers = {"Job-Token": job_token(number), "Content-Type": "multipart/form-data; boundary=x"}
    path = f"{within}/api/v4/jobs/{number + 1}/artifacts?artifact_format=zip&artifact_type=archive"
    began = time.perf_counter()
    for _ in range(UPLOADS):
        answer = await line.ask("POST", path, headers, pieces=UPLOAD_PIECES)
        assert answer.status == 201, answer
    return UPLOADS * UPLOAD_PIECES * len(load.PIECE) / MIB / (time.perf_counter() - began)


async def _download(line: load.Connection, within: str) -> float:
    path, headers = f"{within}/api/v4/jobs/{DEPENDENCY['id']}/artifacts", {"Job-Token": DEPENDENCY["token"]}
    began = time.perf_counter()
    for _ in range(DOWNLOADS):
        answer = await line.ask("GET", path, {name: str(value) for name, value in headers.items()})
        assert (answer.status, answer.size) == (200, DOWNLOAD_BYTES), answer
    return DOWNLOADS * DOWNLOAD_BYTES / MIB / (time.perf_counter() - began)


async def _redirected(gate_url: str, upstream_url: str) -> float:
    """As gitlab-runner does: ask the gate, then go where its 307 says."""
    path = f"/m/{machine_name(MACHINES - 1)}/api/v4/jobs/{DEPENDENCY['id']}/artifacts"
    headers = {"Job-Token": str(DEPENDENCY["token"])}
    async with load.connected(gate_url, 1) as (gate,), load.connected(upstream_url, 1) as (upstream,):
        began = time.perf_counter()
        for _ in range(DOWNLOADS):
            sent = await gate.ask("GET", path, headers)
            assert sent.status == 307, sent
            there = sent.headers["location"].removeprefix(upstream_url)
            answer = await upstream.ask("GET", there, headers)
            assert (answer.status, answer.size) == (200, DOWNLOAD_BYTES), answer
        return DOWNLOADS * DOWNLOAD_BYTES / MIB / (time.perf_counter() - began)


def _number(within: str) -> int:
    return int(within.removeprefix("/m/fr-"), 16) if within else 0


@dataclass(frozen=True, slots=True)
class Process:
    """A part of the bench, and where it listens."""

    url: str
    pid: int


@contextlib.asynccontextmanager
async def process(module: str, *arguments: str) -> AsyncIterator[Process]:
    """`python -m MODULE ARGUMENTS` while the block runs; it ends by itself when its standard input does."""
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert started.stdin is not None
    assert started.stdout is not None
    try:
        facts = json.loads(await started.stdout.readline())
        yield Process(facts["url"], started.pid)
    finally:
        started.stdin.close()
        await started.wait()


def rss_mib(pid: int) -> float:
    """What a process holds in memory (proc(5): statm), in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB
