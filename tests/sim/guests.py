"""What guests do in the simulation; each tries again what fails, as gitlab-runner does."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from firerunner.fakes.machines import Guest


class Unwanted(Exception):
    """The gate says for good that nobody waits for this guest."""


@dataclass
class Lives:
    """How guests live. `broken`: the share of machines that never come so far as to run their job."""

    seed: int
    broken: float = 0.0
    ran: Counter[int] = field(default_factory=Counter)
    """GitLab's job id → in how many guests its script began."""
    told: dict[int, int] = field(default_factory=dict)
    """GitLab's job id → bytes of trace that GitLab has accepted from its guest."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    async def live(self, guest: Guest) -> None:
        """One guest's life."""
        fate = self._random.random()
        await asyncio.sleep(self._random.uniform(0.5, 4.0))
        if fate < self.broken / 3:
            await asyncio.Event().wait()  # never boots
        try:
            await _insist(guest.booted, {200})
            if fate < self.broken * 2 / 3:
                await asyncio.Event().wait()  # boots, and hangs
            if fate < self.broken:
                return  # dies before it has asked
            with suppress(Unwanted):  # a runner that is refused goes home, and its guest with it
                await self._run(guest)
            await _insist(guest.ended, {204})
        except Unwanted:
            return

    async def _run(self, guest: Guest) -> None:
        while (await _insist(guest.ask, {201, 204})).status_code != 201:
            await asyncio.sleep(3.0)
        job = guest.job
        assert job is not None
        first = await _insist(lambda: guest.update("running"), {200})
        if first.headers.get("Job-Status") in {"canceled", "failed"}:
            return
        self.ran[job["id"]] += 1
        kind = job["job_info"]["name"].partition("-")[0]
        seconds = {"ok": 3.0, "fails": 3.0, "long": 20.0, "stuck": 1e9, "mute": 1e9, "dies": 1e9}[kind]
        if kind == "mute":
            await asyncio.Event().wait()
        if kind == "dies":
            await asyncio.sleep(2.0)
            return
        canceled = await self._work(guest, job, seconds)
        final: dict[str, Any] = (
            {"failure_reason": "script_failure", "exit_code": 1} if kind == "fails" else {}
        )
        state = "failed" if kind == "fails" or canceled else "success"
        await _insist(lambda: guest.update(state, **final), {200})

    async def _work(self, guest: Guest, job: dict[str, Any], seconds: float) -> bool:
        """True if the job was cancelled meanwhile."""
        loop = asyncio.get_running_loop()
        ends, number = loop.time() + min(seconds, float(job["runner_info"]["timeout"])), 0
        while loop.time() < ends:
            number += 1
            response = await _insist(lambda: _say(guest, f"line {number}\n"), {202, 416})  # noqa: B023
            self.told[job["id"]] = guest.trace_size
            if response.headers.get("Job-Status") == "canceling":
                return True
            await asyncio.sleep(min(3.0 if seconds < 100 else 30.0, max(0.1, ends - loop.time())))
        return False


async def _say(guest: Guest, text: str) -> httpx.Response:
    """A part whose first answer was lost is there already: 416 says how much GitLab has."""
    response = await guest.say(text)
    if response.status_code == 416:
        guest.trace_size = int(response.headers["Range"].partition("-")[2])
    return response


async def _insist(call: Any, accepted: set[int]) -> httpx.Response:
    """Until it is accepted, or refused for good."""
    while True:
        try:
            response: httpx.Response = await call()
        except httpx.HTTPError:
            await asyncio.sleep(2.0)
            continue
        if response.status_code in accepted:
            return response
        if response.status_code in {403, 404, 410}:
            raise Unwanted
        await asyncio.sleep(float(response.headers.get("Retry-After", 2.0)))
