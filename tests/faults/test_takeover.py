"""A new version takes over under a running job: the old process is gone, the ledger is one revision older."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest
from tests.scene.controllers import ControllerProcess, scene

from firerunner.fakes.machines import Guest, start
from firerunner.images import Image
from firerunner.ledger import migrate, versions
from firerunner.settings import load_settings

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

BEFORE, NOW = [each.name for each in migrate.revisions()][-2:]


class Working:
    """Guests whose jobs print until the test lets them end."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.works = asyncio.Event()

    async def __call__(self, guest: Guest) -> None:
        await start(guest)
        while not self.may_end.is_set():
            await self._until_taken(guest, "still here\n")
            self.works.set()
            await asyncio.sleep(0.2)
        while (await _answered(guest.update("success"))) is None:
            await asyncio.sleep(0.2)
        await _answered(guest.ended())

    async def _until_taken(self, guest: Guest, text: str) -> None:
        """As the runner does: again and again, over a gate that is away."""
        while (await _answered(guest.say(text))) is None:
            await asyncio.sleep(0.2)


async def _answered(call: object) -> int | None:
    try:
        response = await call  # type: ignore[misc]
    except Exception:
        return None
    return None if response.status_code >= 500 else int(response.status_code)


async def command(one: ControllerProcess, *words: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "firerunner", *words, "--config", str(one.config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:  # `drain` waits for ever
            process.kill()
            await process.wait()
    return process.returncode or 0, said.decode()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["handed over", "killed"])
async def test_a_job_runs_on_over_an_upgrade(image: Image, how: signal.Signals) -> None:
    async with scene(None, image, count=1) as it:
        it.vmm.life = working = Working()
        (one,) = it.controllers
        await it.start_all()
        (job,) = await it.run_jobs(1)
        await asyncio.wait_for(working.works.wait(), 60)
        url = load_settings(one.config).database_url
        refused, why = await command(one, "ledger", "rollback", BEFORE)

        one.signal(how)
        assert one.process is not None
        await asyncio.to_thread(one.process.wait)
        rolled_back, _ = await command(one, "ledger", "rollback", BEFORE)
        at = await versions.revision_of(url)
        looked, told = await command(one, "jobs")
        await it.start_all()
        after = await versions.revision_of(url)
        working.may_end.set()
        await it.ended([job])
        await it.check_clean()

    assert (refused, "another controller works in" in why) == (1, True)
    assert (rolled_back, at, after) == (0, BEFORE, NOW)
    assert (looked, f"revision {BEFORE}" in told) == (1, True)
    assert (job.status, job.handed_out, len(it.vmm.booted)) == ("success", 1, 1)


async def test_drain_and_upgrade(image: Image) -> None:
    """As docs/upgrade.md says it: no job runs meanwhile, and GitLab keeps what comes."""
    async with scene(None, image, count=1) as it:
        it.vmm.life = working = Working()
        (one,) = it.controllers
        await it.start_all()
        url = load_settings(one.config).database_url
        (running,) = await it.run_jobs(1)
        await asyncio.wait_for(working.works.wait(), 60)

        draining = asyncio.create_task(command(one, "drain", "kvm-1", "--reason", "upgrade"))
        await it.until(lambda: "draining" in one.said())
        (kept,) = await it.run_jobs(1)
        assert not draining.done()
        working.may_end.set()
        drained, told = await draining
        assert (drained, running.status, kept.status) == (0, "success", "pending"), told
        one.signal(signal.SIGTERM)
        assert one.process is not None
        await asyncio.to_thread(one.process.wait)
        await command(one, "ledger", "rollback", BEFORE)

        await it.start_all()
        at = await versions.revision_of(url)
        before = kept.status
        uncordoned, _ = await command(one, "uncordon", "kvm-1")
        await it.ended([kept])
        await it.check_clean()

    assert (at, before, uncordoned) == (NOW, "pending", 0)
