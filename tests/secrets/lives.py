"""Guests whose jobs fail, whose machines end too early, and who show what they know in wrong places."""

from __future__ import annotations

import asyncio

from firerunner.fakes.machines import Guest, start
from tests.secrets import canaries


async def failing(guest: Guest) -> None:
    await start(guest)
    await guest.say(f"this fails with {guest.spec.credential}\n")
    await guest.update("failed", failure_reason="script_failure", exit_code=1)
    await guest.ended(1)


async def dying(guest: Guest) -> None:
    await start(guest)
    await guest.ended(137)


async def lying(guest: Guest) -> None:
    """What it knows it shows where it does not belong."""
    await start(guest)
    token = (guest.job or {})["token"]
    for url in (f"{guest.base}/api/v4/jobs/1/{token}", f"{guest.base}/{token}?x={guest.spec.credential}"):
        await guest.http.get(url)
    for secret in (canaries.RUNNER_TOKEN, token, guest.spec.credential):
        wrong = {"token": secret, "state": "running"}
        for headers in ({"JOB-TOKEN": secret}, {"Authorization": f"Bearer {secret}x"}):
            await guest.http.put(f"{guest.base}/api/v4/jobs/1", headers=headers, json=wrong)
            await guest.http.post(f"{guest.base}/guest/booted", headers=headers, content=secret)
            await guest.http.post(f"{guest.base}/api/v4/jobs/request", headers=headers, content=f"{{{secret}")
    await asyncio.sleep(1.0)
    await guest.update("success")
    await guest.ended()
