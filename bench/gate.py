"""gate: trace patches a second and artifact MiB a second through the gate, beside the fake GitLab itself.

Gate, GitLab and client are processes of their own (`gate_service`, `gate_fake`, and this one with the client
of `load`), so that none waits for another's turn in one event loop. The gate has a ledger in its file. Both
ways are asked by the same client in turn. Two cores hold three processes: what the gate adds is the CPU time
of all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench import load
from bench.gate_parts import DEPENDENCY, DEPENDENCY_ID, DOWNLOAD_BYTES, MACHINES, job_token, machine_name
from bench.load import Request
from bench.rows import Goal, Row, measured
from firerunner.cli.output import errors

ROUNDS = 9
REDIRECTS = 4
"""Downloads of each way and round, in turn: one takes a tenth of a second, which other work easily fills."""
PATCHES, CONNECTIONS = 4_000, 16
UPLOAD_PIECES = 256
PATCH = bytes(1024)
MIB = 1024 * 1024
PATCHES_AT_LEAST, STREAMED_AT_LEAST, REDIRECTED_AT_LEAST, GROWN_AT_MOST_MIB = 0.5, 0.7, 0.95, 8.0

FORM = "x-bench-x"
FORM_HEAD = (
    f'--{FORM}\r\nContent-Disposition: form-data; name="file"; filename="artifacts.zip"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
).encode()
FORM_TAIL = f"\r\n--{FORM}--\r\n".encode()


@dataclass(frozen=True, slots=True)
class Way:
    """To GitLab, or to the gate before it."""

    url: str
    through: bool

    def within(self, number: int) -> str:
        """Where the paths of a machine begin."""
        return f"/m/{machine_name(number)}" if self.through else ""

    def job(self, number: int) -> int:
        """The job of that number: each way has its own."""
        return number + 1 if self.through else MACHINES + number + 1


@dataclass(slots=True)
class Figures:
    """Of each round: patches a second, MiB a second."""

    patches: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    uploads: list[float] = field(default_factory=list)
    downloads: list[float] = field(default_factory=list)


async def measure(rounds: int = ROUNDS) -> list[Row]:
    """Both ways in turn, `rounds` times each; the first round of all is not counted."""
    direct, through = Figures(), Figures()
    redirected, straight = list[float](), list[float]()
    async with process("bench.gate_fake") as gitlab, process("bench.gate_service", gitlab.url) as gate:
        ways = ((Way(gitlab.url, through=False), direct), (Way(gate.url, through=True), through))
        traces = Counter[int]()
        for turn in range(rounds + 1):
            errors.print(f"gate: round {turn} of {rounds}")
            if turn == 1:
                for figures in (direct, through):
                    for samples in (figures.patches, figures.took, figures.uploads, figures.downloads):
                        samples.clear()
                for samples in (redirected, straight):
                    samples.clear()
                full_mib = rss_mib(gate.pid)
            for way, figures in ways:
                patches, took = await load.rate(
                    way.url, partial(_patches, way, traces), connections=CONNECTIONS, expect=202
                )
                figures.patches.append(patches)
                figures.took += took
                async with load.connected(way.url, 1) as (line,):
                    figures.uploads.append(await _upload(line, way, turn))
                    figures.downloads.append(await _download(line, way, turn))
            by_redirect, without = await _redirects(gate.url, gitlab.url)
            redirected.append(by_redirect)
            straight.append(without)
        grown_mib = rss_mib(gate.pid) - full_mib
    streamed_mib = rounds * (UPLOAD_PIECES * len(load.PIECE) + DOWNLOAD_BYTES) / MIB
    return [
        _row("trace patches a second", "1/s", through.patches, direct.patches, PATCHES_AT_LEAST),
        Row("  p99 of one", load.quantile(through.took, 0.99), load.quantile(direct.took, 0.99)),
        _row("artifacts up, a second", "MiB", through.uploads, direct.uploads, STREAMED_AT_LEAST),
        _row("artifacts down, a second", "MiB", through.downloads, direct.downloads, STREAMED_AT_LEAST),
        _row("  by a redirect", "MiB", redirected, straight, REDIRECTED_AT_LEAST),
        Row(
            f"the gate grew in {streamed_mib:,.0f} MiB and {rounds * PATCHES:,} patches",
            grown_mib,
            unit="MiB",
            target=Goal("value", "<=", GROWN_AT_MOST_MIB),
        ),
    ]


def _row(measure: str, unit: str, ours: list[float], bare: list[float], at_least: float) -> Row:
    return measured(measure, ours, bare, unit=unit, target=Goal("ratio", ">=", at_least))


def _patches(way: Way, traces: Counter[int]) -> Iterator[Request]:
    """Each goes on where its job's trace ends: GitLab knows every one of them."""
    for each in range(PATCHES):
        number = each % (MACHINES - 1)
        job = way.job(number)
        start = traces[job]
        traces[job] += len(PATCH)
        headers = {
            "Job-Token": job_token(job - 1),
            "Content-Type": "text/plain",
            "Content-Range": f"{start}-{start + len(PATCH) - 1}",
        }
        path = f"{way.within(number)}/api/v4/jobs/{job}/trace?debug_trace=false"
        yield Request("PATCH", path, headers, PATCH)


async def _upload(line: load.Connection, way: Way, turn: int) -> float:
    """Each turn by another job: GitLab takes one artifact of each."""
    job = way.job(turn)
    headers = {"Job-Token": job_token(job - 1), "Content-Type": f"multipart/form-data; boundary={FORM}"}
    path = f"{way.within(turn)}/api/v4/jobs/{job}/artifacts?artifact_format=zip&artifact_type=archive"
    began = time.perf_counter()
    answer = await line.ask("POST", path, headers, FORM_HEAD, pieces=UPLOAD_PIECES, tail=FORM_TAIL)
    assert answer.status == 201, answer
    return UPLOAD_PIECES * len(load.PIECE) / MIB / (time.perf_counter() - began)


async def _download(line: load.Connection, way: Way, turn: int) -> float:
    path = f"{way.within(turn)}/api/v4/jobs/{DEPENDENCY_ID}/artifacts"
    began = time.perf_counter()
    answer = await line.ask("GET", path, {"Job-Token": str(DEPENDENCY["token"])})
    assert (answer.status, answer.size) == (200, DOWNLOAD_BYTES), answer
    return DOWNLOAD_BYTES / MIB / (time.perf_counter() - began)


async def _redirects(gate_url: str, gitlab_url: str) -> tuple[float, float]:
    """MiB a second as gitlab-runner does, which asks the gate and follows its 307; and without the gate."""
    headers = {"Job-Token": str(DEPENDENCY["token"])}
    path = f"/api/v4/jobs/{DEPENDENCY_ID}/artifacts"
    took = {True: 0.0, False: 0.0}
    async with load.connected(gate_url, 1) as (gate,), load.connected(gitlab_url, 1) as (gitlab,):
        for asks_gate in (True, False) * REDIRECTS:
            began, there = time.perf_counter(), path
            if asks_gate:
                sent = await gate.ask("GET", f"/m/{machine_name(MACHINES - 1)}{path}", headers)
                assert sent.status == 307, sent
                there = sent.headers["location"].removeprefix(gitlab_url)
            answer = await gitlab.ask("GET", there, headers)
            assert (answer.status, answer.size) == (200, DOWNLOAD_BYTES), answer
            took[asks_gate] += time.perf_counter() - began
    all_mib = REDIRECTS * DOWNLOAD_BYTES / MIB
    return all_mib / took[True], all_mib / took[False]


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
