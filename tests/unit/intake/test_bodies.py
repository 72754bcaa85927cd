"""Bodies in bounds: of each, and of all strangers' together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from door_given import JOB_HOOK, SIGNING, Given, gitlab, signature

from firerunner.intake.bodies import Bodies, TooLarge, TooMuch, TooSlow

pytestmark = pytest.mark.anyio


class Sender:
    """A body whose parts the test sends."""

    def __init__(self) -> None:
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue()

    def send(self, part: bytes | None) -> None:
        """One part; None is the end."""
        self._parts.put_nowait(part)

    async def parts(self) -> AsyncIterator[bytes]:
        while (part := await self._parts.get()) is not None:
            yield part


async def sent(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_body_may_be_as_large_as_the_limit_and_no_larger() -> None:
    bodies = Bodies()

    assert await bodies.read(sent(b"abc", b"de"), 5, 60, stranger=True) == b"abcde"
    with pytest.raises(TooLarge):
        await bodies.read(sent(b"abc", b"def"), 5, 60, stranger=True)


async def test_a_body_that_drips_is_cut_off() -> None:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b"x"

    with pytest.raises(TooSlow):
        await Bodies().read(drip(), 1_000_000, 0.1, stranger=False)


async def test_of_strangers_bodies_the_largest_goes() -> None:
    bodies, large, small = Bodies(strangers_bytes=10), Sender(), Sender()
    largest = asyncio.create_task(bodies.read(large.parts(), 100, 60, stranger=True))
    smaller = asyncio.create_task(bodies.read(small.parts(), 100, 60, stranger=True))
    large.send(b"x" * 8)
    await asyncio.sleep(0)
    small.send(b"y" * 3)

    with pytest.raises(TooMuch):
        await largest
    small.send(None)
    assert await smaller == b"yyy"


async def test_one_body_that_is_too_much_by_itself_goes() -> None:
    bodies = Bodies(strangers_bytes=10)

    with pytest.raises(TooMuch):
        await bodies.read(sent(b"x" * 6, b"x" * 6), 100, 60, stranger=True)
    assert await bodies.read(sent(b"x" * 10), 100, 60, stranger=True) == b"x" * 10


async def test_who_is_known_has_room_always() -> None:
    bodies, stranger = Bodies(strangers_bytes=10), Sender()
    reading = asyncio.create_task(bodies.read(stranger.parts(), 100, 60, stranger=True))
    stranger.send(b"x" * 10)
    await asyncio.sleep(0)

    assert await bodies.read(sent(b"y" * 50), 100, 60, stranger=False) == b"y" * 50
    stranger.send(None)
    assert await reading == b"x" * 10


async def test_room_is_given_back_however_a_reading_ends() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 9
        raise ConnectionError

    bodies = Bodies(strangers_bytes=10)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await bodies.read(broken(), 100, 60, stranger=True)
    with pytest.raises(TooLarge):
        await bodies.read(sent(b"x" * 9, b"x"), 9, 60, stranger=True)

    assert await bodies.read(sent(b"x" * 10), 100, 60, stranger=True) == b"x" * 10


async def test_a_stranger_whose_body_is_too_much_is_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = Given()
    given.configure(gitlab(signing_token=SIGNING))
    body = json.dumps(JOB_HOOK).encode()
    monkeypatch.setattr(given.door, "_bodies", Bodies(strangers_bytes=len(body)))

    whole = await given.post(body, signature(body))
    too_much = await given.post(body + b" ", signature(body + b" ", webhook_id="2"))

    assert [whole.status_code, too_much.status_code] == [200, 429]
    assert too_much.headers["retry-after"] == "1"
    assert given.counted == ["woke", "too_much"]
