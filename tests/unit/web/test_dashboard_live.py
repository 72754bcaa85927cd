"""Live pages: one look for all, changes only, a bounded number of streams; hostile names, many machines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping
from contextlib import aclosing
from typing import Any

import pytest
from test_dashboard_access import look, session
from web_given import OPERATE, SMALL, A, Given

from firerunner.errors import LedgerError
from firerunner.ledger import MachineState, NewJob
from firerunner.planning import PoolState
from firerunner.web.dashboard import live
from firerunner.web.dashboard.live import Live
from firerunner.web.dashboard.reader import Reader
from firerunner.web.dashboard.stream import EventStream
from firerunner.web.dashboard.views import View

pytestmark = pytest.mark.anyio

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)>\"'\u202e\x1b[31m"


class World:
    """Views that a test changes, and how often somebody has looked."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {"a": "<p>1"}
        self.gone = False
        self.broken = ""
        self.looks: list[set[str]] = []

    async def views(self, names: Collection[str]) -> Mapping[str, View | None]:
        self.looks.append(set(names))
        if self.broken:
            raise LedgerError(self.broken)
        return {name: None if self.gone else View({"p": dict(self.rows)}) for name in names}


def told(event: bytes) -> tuple[str, Any]:
    lines = dict(line.partition(": ")[::2] for line in event.decode().strip().split("\n"))
    kind, data = lines.get("event", "retry"), lines.get("data", "")
    return kind, json.loads(data) if kind == "change" else data


async def test_a_viewer_gets_what_it_lacks_and_then_what_changes() -> None:
    world = World()
    it = Live(world, look_every_s=0.01)
    async with asyncio.timeout(30), aclosing(it.stream("jobs", "old", lambda: True)) as events:
        got = [told(await anext(events)) for _ in range(2)]
        world.rows = {"a": "<p>1", "b": "<p>2"}
        got.append(told(await anext(events)))
        world.broken = "the disk is\nfull"
        got.append(told(await anext(events)))
        world.broken, world.gone = "", True
        got += [told(event) async for event in events]

    assert got == [
        ("retry", ""),
        ("change", [{"place": "p", "all": ["<p>1"]}]),
        ("change", [{"place": "p", "put": [["b", "a", "<p>2"]], "drop": []}]),
        ("trouble", "the disk is\ufffdfull"),
        ("trouble", ""),
        ("leave", ""),
    ]
    assert it.viewers == 0


async def test_who_comes_back_with_what_is_still_so_gets_nothing_anew() -> None:
    world = World()
    it, version = Live(world, look_every_s=0.01), View({"p": world.rows}).version
    async with asyncio.timeout(30), aclosing(it.stream("jobs", version, lambda: True)) as events:
        await anext(events)
        following = asyncio.create_task(anext(events))
        while len(world.looks) < 5:
            await asyncio.sleep(0.01)
        assert not following.done()
        world.rows = {}
        assert told(await following) == ("change", [{"place": "p", "put": [], "drop": ["a"]}])


async def test_many_viewers_are_one_look_and_not_too_many_are_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_VIEWERS", 10)
    world = World()
    it = Live(world, look_every_s=0.01)
    async with asyncio.timeout(30):
        streams = [it.stream(f"job/{number % 2}", "", lambda: True) for number in range(11)]
        firsts = [told(await anext(stream))[0] for stream in streams]
        for stream in streams[:10]:
            await anext(stream)
        seen = len(world.looks)
        world.rows = {"a": "<p>new"}
        changes = [told(await anext(stream))[0] for stream in streams[:10]]
        for stream in streams:
            await stream.aclose()
        while it.viewers or not it._looking.done():  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
        after = len(world.looks)
        await asyncio.sleep(0.1)

    assert firsts == ["retry"] * 10 + ["full"]
    assert changes == ["change"] * 10
    assert seen <= 12  # not one for each at each time
    assert world.looks[-1] <= {"job/0", "job/1"}
    assert len(world.looks) == after  # nobody looks, so nothing is read


async def test_who_may_look_no_more_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.05)
    answers = iter([True, False])
    async with (
        asyncio.timeout(30),
        aclosing(Live(World()).stream("jobs", "", lambda: next(answers))) as events,
    ):
        got = [told(event)[0] async for event in events]

    assert got == ["retry", "change", "well", "leave"]


async def test_who_may_look_no_more_is_sent_away_while_much_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 2.0)
    world, kinds = World(), []
    async with (
        asyncio.timeout(20),
        aclosing(Live(world, look_every_s=0.001).stream("jobs", "", lambda: False)) as events,
    ):
        async for event in events:
            kinds.append(told(event)[0])
            world.rows = {"a": f"<p>{len(kinds)}"}  # so that there is always something new

    assert kinds[-1] == "leave"
    assert kinds.count("change") > 1


async def test_the_end_of_the_service_ends_all_streams() -> None:
    it = Live(World())
    async with asyncio.timeout(30), aclosing(it.stream("jobs", "", lambda: True)) as events:
        await anext(events)
        await anext(events)
        following = asyncio.create_task(anext(events, None))
        await asyncio.sleep(0)
        await it.aclose()
        assert await following is None


async def test_a_closed_window_gives_its_place_back_at_once() -> None:
    it, gone, sent = Live(World()), asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.set()

    answer = EventStream(it.stream("jobs", "", lambda: True))
    async with asyncio.timeout(30):
        serving = asyncio.create_task(answer({"type": "http"}, receive, send))
        await sent.wait()
        gone.set()
        await serving

    assert it.viewers == 0


async def test_what_projects_and_guests_write_is_text_on_every_page(given: Given) -> None:
    await given.fill()
    ledger, odd = given.ledger, "fr-dddddddddddd"
    await ledger.reserve(odd, "small", "kvm-1", SMALL, "sha256:1")
    await ledger.begin_ask(odd)
    await ledger.take(odd, NewJob(9, "t", HOSTILE + "x" * 100_000, 3, HOSTILE, 60))
    await ledger.move_machine(odd, MachineState.FAILED, reason=HOSTILE)
    await ledger.note("machine", odd, "said", {HOSTILE: {"deep": HOSTILE}, "half": "\ud83d"})
    given.consoles[odd] = HOSTILE.encode() * 500
    given.silent = HOSTILE
    cookie = await session(given, OPERATE)

    paths = ("/", "/machines", "/hosts", "/jobs", "/journal", "/jobs/9", f"/machines/{odd}", "/jobs/9/cancel")
    pages = [await look(given, path, cookie) for path in (*paths, "/journal?subject=%22%3E%3Cscript%3E")]

    assert [page.status_code for page in pages] == [200] * len(pages)
    for page in pages:
        assert page.text.count("<script") == 1  # ours
        assert "<img src=x" not in page.text
        assert not {"\x1b", "\u202e"} & set(page.text)
        assert len(page.text) < 200_000
    assert all("&lt;script&gt;alert(1)" in pages[number].text for number in (0, 1, 3, 4, 5, 6))


async def test_a_thousand_machines_are_one_page_and_a_change_is_one_row(given: Given) -> None:
    given.crowd(1000)
    page = await look(given, "/machines", await session(given, OPERATE))
    it = Live(Reader(given.operations), look_every_s=0.01)

    async with asyncio.timeout(60), aclosing(it.stream("machines", "", lambda: True)) as events:
        await anext(events)
        whole = await anext(events)
        await given.move_one_of_crowd(500, MachineState.CREATING)
        change = await anext(events)

    assert page.text.count("<tr id=") == 1000
    assert whole.count(b"<tr id=") == 1000
    assert change.count(b"<tr id=") == 1
    assert len(change) < 2000


async def test_a_held_machine_is_seen_among_the_others(given: Given) -> None:
    await given.fill()
    for to in (MachineState.BOOTING, MachineState.WAITING, MachineState.BUSY):
        await given.ledger.move_machine(A, to)
    await given.ledger.hold(A, 60, 1)
    cookie = await session(given, OPERATE)

    machines, journal = [(await look(given, path, cookie)).text for path in ("/machines", "/journal")]

    assert '<span class="state s-held">held</span>' in machines
    assert '<span class="state s-held">1 held</span>' in machines
    assert '<span class="state s-busy">1 busy</span>' in machines
    assert ">Jan 01 00:17:40</time>" in journal  # until when


async def test_a_job_is_shown_with_its_console_and_its_states(given: Given) -> None:
    await given.fill()
    given.consoles[A] = b"\x1b[1mbooted\x1b[0m\r\n"

    page = (await look(given, "/jobs/7", await session(given, OPERATE))).text

    assert ">booted</pre>" in page
    assert all(f'class="f-{state}' in page for state in ("taken", "assigned", "reserved", "creating"))
    assert "group/project" in page
    assert f'href="/machines/{A}/destroy"' in page
    assert 'href="/jobs/7/cancel"' in page


@pytest.mark.parametrize(
    ("state", "word", "asks", "others"),
    [
        (PoolState.ASKING, "asks", 1, ""),
        (PoolState.IDLE, "idle", 1, ""),
        (PoolState.LIMIT, "full", 0, "1 full"),
        (PoolState.NO_ROOM, "full", 0, "1 full"),
        (PoolState.HOMELESS, "waits", 0, "1 full"),
        (PoolState.BLOCKED, "blocked", 0, "1 blocked"),
    ],
)
async def test_a_pool_between_two_asks_is_told_from_one_that_cannot_ask(
    given: Given, state: PoolState, word: str, asks: int, others: str
) -> None:
    given.state, given.silent = state, "GitLab had no job; next ask in 2.0 s"

    page = (await look(given, "/", await session(given, OPERATE))).text

    assert f'<span class="state s-{word}">{word}</span> <span class="why">GitLab had no job' in page
    assert f"<b>{asks}<small> of 1</small></b>pools ask GitLab{others and f'<em>{others}</em>'}</a>" in page


async def test_a_controller_that_stands_by_says_what_it_does_not_know(given: Given) -> None:
    cookie = await session(given, OPERATE)
    leading = (await look(given, "/", cookie)).text
    given.leads = False
    await given.ledger.note("lease", "controller", "another leads")

    standing_by = (await look(given, "/", cookie)).text

    assert (">asks<" in leading, "stands by" in leading) == (True, False)
    assert (">asks<" in standing_by, "stands by" in standing_by) == (False, True)
    assert "not known here" in standing_by
