"""One run: the storm, the slow ones, the honest traffic, and what the witnesses say in the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from firerunner.images import Image
from tests.fuzz.described import described
from tests.fuzz.slow import Slowness, dribbling
from tests.fuzz.storm import Tally, storm
from tests.fuzz.witness import MOST_FDS, MOST_RSS_MIB, cpu_s, obeyed, open_fds, rss_mib, seen
from tests.fuzz.world import World, world

SAY_EVERY_S = 5.0
LONG = 20_000
"""From so many requests on everything is tried that takes its time."""
SLOW_ONES, SHORT_S, LONG_S = 30, 13.0, 70.0
CALM_S = 20.0
"""Connections are given so long to be gone."""

Say = Callable[[str], None]


@dataclass
class Report:
    """What all witnesses together say."""

    seed: int
    tally: Tally
    slow: Slowness
    took_s: float = 0.0
    obeyed: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    hurt: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """All of them have to be 0."""
        return {
            "server_errors": self.tally.server_errors,
            "obeyed": self.tally.obeyed + len(self.obeyed) + len(self.slow.obeyed),
            "killed": len(self.killed),
            "hurt": self.tally.hurt + len(self.hurt) + len(self.slow.uncut),
            "lost": len(self.lost),
            "leaked": len(self.leaked),
        }

    @property
    def is_clean(self) -> bool:
        """True if all promises hold."""
        return not any(self.counts.values())

    def as_told(self) -> dict[str, Any]:
        """The last line."""
        tally, slow = self.tally, self.slow
        what = [
            *self.killed,
            *self.obeyed,
            *slow.obeyed,
            *self.lost,
            *self.leaked,
            *self.hurt,
            *slow.uncut,
            *tally.findings,
        ]
        return {
            "harness": "fuzz",
            "seed": self.seed,
            "tried": tally.tried + sum(slow.per_door.values()),
            "per_door": dict(tally.per_door + slow.per_door),
            "answers": tally.told_answers() | {"none": tally.unanswered},
            **self.counts,
            "not_offered": tally.not_offered,
            "slow_cut": slow.cut,
            "slow_longest_s": dict(slow.longest_s),
            "per_kind": dict(sorted(tally.per_kind.items())),
            **self.facts,
            "took_s": round(self.took_s, 1),
            "per_s": round(tally.tried / max(self.took_s, 0.001)),
            "what": what[:20],
        }


async def run(image: Image, n: int, seed: int, say: Say, program: tuple[str, ...] | None = None) -> Report:
    """`program`: what is run in place of `-m firerunner`."""
    report = Report(seed, Tally(), Slowness())
    async with world(image, program) as it:
        await _run(it, report, n, say)
        said = it.service.said()
        if (count := said.count("Traceback")) > 0:
            at = said.index("Traceback")
            report.hurt.append(
                f"{count} tracebacks in the log, the first one: {said[max(0, at - 500) : at + 2500]}"
            )
    return report


async def _run(it: World, report: Report, n: int, say: Say) -> None:
    process, tally = it.service.process, report.tally
    assert process is not None
    before, fds, hooks_before = await seen(it), open_fds(process.pid), it.hooks_sent
    rss = [rss_mib(process.pid)]
    enough = asyncio.Event()
    honest = asyncio.create_task(it.send_hooks())
    slow = asyncio.create_task(
        dribbling(it.facts, SLOW_ONES, LONG_S if n >= LONG else SHORT_S, report.slow, enough)
    )
    telling = asyncio.create_task(_tell(it, report, n, say, rss))
    began, cpu = time.monotonic(), cpu_s(process.pid)
    try:
        try:
            await storm(report.seed, it.facts, _until_dead(it, n), tally)
        except* OSError as error:
            report.hurt.append(f"the service could not be reached: {error.exceptions[0]!r}")
        report.took_s = time.monotonic() - began
        with contextlib.suppress(OSError):
            report.facts["service_cpu_s"] = round(cpu_s(process.pid) - cpu, 1)
        enough.set()
        say("the storm is over; the slow ones go on to their ends")
        if process.poll() is not None:
            said = it.service.said()[-2000:]
            report.killed.append(f"the service ended with status {process.returncode}: {said}")
        with contextlib.suppress(OSError, ExceptionGroup):
            await slow
    finally:
        for task in (slow, honest, telling):
            task.cancel()
        await asyncio.gather(slow, honest, telling, return_exceptions=True)
    if not report.killed:
        await _look_back(it, report, before, hooks_before, rss[0], fds, say)
    report.hurt += it.hurt
    report.facts |= {"honest_hooks": it.hooks_sent, "honest_hook_slowest_s": round(it.hooks_slowest_s, 2)}


async def _look_back(
    it: World, report: Report, before: Any, hooks_before: int, rss: float, fds: int, say: Say
) -> None:
    process = it.service.process
    assert process is not None
    after = await seen(it)
    report.obeyed += await obeyed(it, before, after, it.hooks_sent - hooks_before)
    until = time.monotonic() + CALM_S
    while open_fds(process.pid) > fds + MOST_FDS and time.monotonic() < until:
        await asyncio.sleep(0.5)
    rss_after, fds_after = rss_mib(process.pid), open_fds(process.pid)
    if rss_after - rss >= MOST_RSS_MIB:
        report.leaked.append(f"memory grew from {rss:.0f} to {rss_after:.0f} MiB")
    if fds_after > fds + MOST_FDS:
        report.leaked.append(f"file descriptors grew from {fds} to {fds_after}")
    report.facts |= {"rss_before_mib": round(rss), "rss_after_mib": round(rss_after)}
    report.facts |= {"fds_before": fds, "fds_after": fds_after}
    report.facts["hooks"] = await it.counted()
    if report.counts["obeyed"]:
        return  # and what is left of the honest jobs would only take its time
    say("the honest jobs end")
    report.lost += await it.end()
    report.facts["honest_trace_bytes"] = {role.name: len(role.told) for role in it.roles if role.talks}
    if report.tally.tried >= LONG:
        say("schemathesis goes through the operators' API")
        problem = await described(it.facts, report.seed)
        if problem:
            report.hurt.append(problem)
        report.facts["described"] = "failed" if problem else "held"
    if process.poll() is not None:
        report.killed.append(f"the service ended with status {process.returncode}")


def _until_dead(it: World, n: int) -> Iterator[int]:
    process = it.service.process
    for index in range(n):
        if index % 100 == 0 and process is not None and process.poll() is not None:
            return
        yield index


async def _tell(it: World, report: Report, n: int, say: Say, rss: list[float]) -> None:
    """A line now and then. Memory is counted from where everything has been used once."""
    process, began, tally = it.service.process, time.monotonic(), report.tally
    assert process is not None
    warm = False
    while True:
        await asyncio.sleep(SAY_EVERY_S)
        with contextlib.suppress(OSError):
            now = rss_mib(process.pid)
            if not warm:
                rss[0], warm = now, True
            rate = tally.tried / (time.monotonic() - began)
            found = {name: count for name, count in report.counts.items() if count}
            say(
                f"{tally.tried} of {n}, {rate:.0f}/s, {now:.0f} MiB, {open_fds(process.pid)} files, "
                f"{report.slow.cut} slow ones cut, {found or 'nothing found'}"
            )
