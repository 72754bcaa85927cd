"""One actor at a time for each key, also where one comes between another's end and a third one's turn."""

from __future__ import annotations

import asyncio

import pytest

from firerunner.control.locking import Locks

pytestmark = pytest.mark.anyio


async def test_who_comes_while_a_lock_changes_hands_waits_for_its_turn() -> None:
    locks, inside, most = Locks(), 0, 0

    async def act() -> None:
        nonlocal inside, most
        async with locks["fr-1"]:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    async with asyncio.TaskGroup() as actors:
        for _ in range(5):
            actors.create_task(act())
            await asyncio.sleep(0)

    assert most == 1
    assert len(locks) == 0


async def test_two_keys_do_not_wait_for_each_other_and_one_who_gives_up_is_forgotten() -> None:
    locks = Locks()
    async with locks["fr-1"], locks["fr-2"]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), locks["fr-1"]:
                pass
        assert len(locks) == 2

    assert len(locks) == 0
