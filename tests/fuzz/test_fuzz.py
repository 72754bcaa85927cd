"""A short run of `make fuzz`, and that it would find what it looks for."""

from __future__ import annotations

import os
import sys

import pytest

from firerunner.images import Image
from tests.fuzz.run import Report, run
from tests.fuzz.wire import Wire

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


def _say(line: str) -> None:
    print(line, file=sys.stderr)


SLOW = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 switches it on")


async def _short(image: Image, count: int, *program: str) -> Report:
    return await run(image, count, 7, _say, program or None)


async def test_hostile_requests_are_refused_and_honest_work_goes_on(image: Image) -> None:
    report = await _short(image, 2000)

    assert report.is_clean, report.as_told()
    assert report.tally.tried == 2000
    assert set(report.tally.per_door) == {"webhook", "api", "gate"}
    assert report.slow.cut > 0


@pytest.mark.parametrize("door", ["hooks", pytest.param("gate", marks=SLOW), pytest.param("api", marks=SLOW)])
async def test_a_safeguard_that_is_off_is_seen(image: Image, door: str) -> None:
    report = await _short(image, 300, "-m", "tests.fuzz.open_doors", door)

    assert report.counts["obeyed"] > 0, report.as_told()
    assert not report.is_clean


def test_answers_are_told_apart_however_they_are_cut() -> None:
    said = (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHTTP/"
        b"HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        b"HTTP/1.1 204 No Content\r\n\r\n"
        b"HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\n\r\nanything"
    )
    for size in (1, 2, 7, len(said)):
        wire = Wire()
        for at in range(0, len(said), size):
            wire.data_received(said[at : at + size])
        assert wire.statuses == [200, 403, 204, 500]
        assert not wire.open
