"""The dashboard in a real Chromium: by keyboard, live, over a restart, dark and light, no other origin."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect
from web_given import GONE, OPERATE, SMALL, A, B, Given, opened

from firerunner.ledger import HostUse, MachineState, NewJob
from firerunner.serving import WEB_BOUNDS, served

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium: `make test` installs it"),
]

WAIT_MS = 30_000
"""For what comes within a second on a computer that is not busy."""
expect.set_options(timeout=WAIT_MS)


@dataclass
class Place:
    """The dashboard on a port of loopback, with a browser before it, and all that browser complained of."""

    folder: Path
    given: Given
    browser: Browser
    port: int
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def page(self, path: str = "/", **how: object) -> Page:
        context = await self.browser.new_context(base_url=self.url, **how)  # type: ignore[arg-type]
        context.set_default_timeout(WAIT_MS)
        page = await context.new_page()
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        await page.goto(path)
        return page


@contextlib.asynccontextmanager
async def serving(given: Given, port: int = 0) -> AsyncIterator[int]:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(50)
    bound = listener.getsockname()[1]
    async with served(given.app, listener, bounds=WEB_BOUNDS):
        try:
            yield bound
        finally:
            await given.dashboard.aclose()


@contextlib.asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    """Ends with no complaint of the browser, and no request to anybody else."""
    ledger = await opened(folder)
    given = Given(ledger)
    given.configure(loopback=True)
    await given.fill()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"))
        try:
            async with serving(given) as port:
                it = Place(folder, given, browser, port)
                yield it
                await browser.close()  # before the service: what it loads just now is no complaint
        finally:
            await browser.close()
            await ledger.aclose()
    assert it.complaints == []
    assert {url for url in it.requests if not url.startswith(it.url)} == set()


async def focused(page: Page) -> str:
    text: str = await page.evaluate("document.activeElement.textContent.trim()")
    return text


async def test_by_keyboard_alone_one_signs_in_and_cordons_a_host(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        page = await it.page()
        await page.keyboard.press("Tab")
        skip = await focused(page)
        await page.keyboard.press("3")
        await page.wait_for_url("**/hosts")
        await page.get_by_role("link", name="Cordon kvm-1").press("Enter")
        await page.get_by_role("main").get_by_role("link", name="sign in").press("Enter")
        await expect(page.locator("#token")).to_be_focused()
        await page.keyboard.type("x" * 32)
        it.complaints.clear()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("not one of ours")
        await expect(page.locator("#token")).to_be_focused()
        wrong, it.complaints = it.complaints, []
        await page.keyboard.type(OPERATE)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading")).to_have_text("Cordon host kvm-1?")
        await expect(page.locator("#reason")).to_be_focused()
        await page.keyboard.type("new kernel")
        await page.keyboard.press("Enter")
        await expect(page.locator("#host-kvm-1")).to_contain_text("cordoned new kernel")
        await expect(page.locator("#live")).to_have_text("live")
        await page.keyboard.press("/")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await page.keyboard.type("local")
        shown = await page.locator("#hosts tr:visible th a").all_inner_texts()
        await page.keyboard.press("Escape")
        all_shown = await page.locator("#hosts tr:visible").count()
        await page.get_by_role("button", name="Sign out").press("Enter")
        await expect(page.get_by_role("heading")).to_have_text("Sign in")
        order = (await it.given.ledger.host_orders())["kvm-1"]

    assert skip == "Skip to the content"
    assert all("401" in complaint for complaint in wrong)
    assert (order.use, order.reason) == (HostUse.CORDONED, "new kernel")
    assert (shown, all_shown) == (["local"], 2)


async def test_an_open_page_follows_what_happens(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        ledger = it.given.ledger
        machines, job = await it.page("/machines"), await it.page("/jobs/7")
        await expect(machines.locator("#live")).to_have_text("live")
        await machines.locator(f"#machine-{A} a").first.focus()
        await ledger.move_machine(A, MachineState.BOOTING)
        await expect(machines.locator(f"#machine-{A}")).to_contain_text("booting")
        kept = await focused(machines)
        await ledger.reserve("fr-zzzzzzzzzzzz", "small", "local", SMALL, "sha256:1")
        await expect(machines.locator("#machines tr")).to_have_count(3)
        await ledger.move_machine(B, MachineState.RETIRING)
        await ledger.move_machine(B, MachineState.GONE)
        await expect(machines.locator(f"#machine-{B}")).to_have_count(0)
        it.given.consoles[A] = b"\x1b[31mhello from the guest\x1b[0m <b>bold</b>\r\n"
        await ledger.move_machine(A, MachineState.WAITING)
        await expect(job.locator("pre.console")).to_have_text("hello from the guest <b>bold</b>")
        await expect(job.locator("rect.f-booting")).to_have_count(1)
        await ledger.note("machine", A, "<img src=x onerror=alert(1)>", {"said": "<script>alert(2)</script>"})
        await expect(job.locator("#journal")).to_contain_text("<script>alert(2)</script>")
        reach = await job.locator("#journal img, #journal script").count()

    assert kept == A
    assert reach == 0


async def test_a_page_left_open_over_a_restart_goes_on(tmp_path: Path) -> None:
    ledger = await opened(tmp_path)
    given = Given(ledger)
    given.configure()
    await given.fill()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"))
        try:
            async with serving(given) as port:
                it = Place(tmp_path, given, browser, port)
                page = await it.page("/jobs")
                await page.fill("#token", OPERATE)
                await page.keyboard.press("Enter")
                await page.wait_for_url("**/jobs")
                await expect(page.locator("#live")).to_have_text("live")
                quiet = await page.evaluate("getComputedStyle(live).color")
            await expect(page.locator("#live")).to_have_text("not live: trying again")
            loud = await page.evaluate("getComputedStyle(live).color")
            again = Given(ledger)  # all that is in memory is new
            again.configure()
            await ledger.reserve("fr-zzzzzzzzzzzz", "small", "local", SMALL, "sha256:1")
            await ledger.begin_ask("fr-zzzzzzzzzzzz")
            await ledger.take("fr-zzzzzzzzzzzz", NewJob(9, "t", "while it was away", 3, "g/p", 60))
            async with serving(again, port):
                await expect(page.locator("#open")).to_contain_text("while it was away")
                await expect(page.locator("#live")).to_have_text("live")
                again.configure("n" * 32, "m" * 32)
                await page.reload()
                await expect(page.get_by_role("heading")).to_have_text("Sign in")
        finally:
            await browser.close()
            await ledger.aclose()

    assert quiet != loud


async def test_every_page_in_dark_and_in_light_has_nothing_to_complain_of(tmp_path: Path) -> None:
    paths = ("/", "/machines", "/hosts", "/jobs", "/journal", "/jobs/7", f"/machines/{GONE}", "/sign-in")
    async with place(tmp_path) as it:
        backs = []
        for scheme in ("light", "dark"):
            page = await it.page(color_scheme=scheme)
            for path in paths:
                await page.goto(path)
            backs.append(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
        wide = await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        scripted = await page.evaluate(
            "() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
            " document.body.append(s); return window.ran === undefined; }"
        )
        it.complaints = [each for each in it.complaints if "Content Security Policy" not in each]

    assert len(set(backs)) == 2
    assert wide
    assert scripted  # the policy lets no inline script run, should one ever get in


LONG = "n" * 300
HOSTILE = "\u202egnp.exe </td><b>" + "long words " * 30

TOO_FAINT = """() => {
  const canvas = document.createElement('canvas');
  const painter = canvas.getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => {
    painter.clearRect(0, 0, 1, 1);
    painter.fillStyle = colour;
    painter.fillRect(0, 0, 1, 1);
    return [...painter.getImageData(0, 0, 1, 1).data];
  };
  const over = (top, under) =>
    top.slice(0, 3).map((c, i) => c * top[3] / 255 + under[i] * (1 - top[3] / 255));
  const behind = (element) => element === null ? [255, 255, 255]
    : over(rgba(getComputedStyle(element).backgroundColor), behind(element.parentElement));
  const linear = (c) => c <= 10 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const found = [];
  const judge = (element, what, least) => {
    const under = behind(element), own = over(rgba(getComputedStyle(element)[what]), under);
    const it = ratio(light(own), light(under));
    if (it < least) found.push(`${element.className.baseVal ?? element.className} ${it.toFixed(2)}`);
  };
  for (const element of document.querySelectorAll('body *'))
    if ([...element.childNodes].some((each) => each.nodeType === 3 && each.data.trim()))
      judge(element, 'color', 4.5);
  for (const rect of document.querySelectorAll('rect[class^="f-"]')) judge(rect, 'fill', 3);
  for (const box of document.querySelectorAll('input:not([type=hidden])')) judge(box, 'borderTopColor', 3);
  return found;
}"""

ALL_STATES = """() => {
  const heading = document.querySelector('.heading');
  const space = 'http://www.w3.org/2000/svg', drawing = document.createElementNS(space, 'svg');
  const timed = ['taken', 'assigned', 'delivered', 'running', 'reserved', 'creating', 'booting', 'waiting',
    'busy', 'failed', 'retiring'];
  for (const state of timed) {
    drawing.append(document.createElementNS(space, 'rect'));
    drawing.lastChild.setAttribute('class', `f-${state}`);
  }
  document.body.append(drawing);
  const others = ['asks', 'idle', 'full', 'blocked', 'cordoned', 'draining', 'returned', 'held'];
  for (const state of [...timed, ...others]) {
    heading.append(document.createElement('span'));
    Object.assign(heading.lastChild, {className: `state s-${state}`, textContent: state});
  }
}"""


async def test_text_and_states_stand_out_in_dark_and_in_light(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        it.given.silent = "its image is missing"
        faint = {}
        for scheme in ("light", "dark"):
            page = await it.page(color_scheme=scheme)
            for path in ("/", "/hosts", "/journal", "/jobs/7", "/sign-in"):
                await page.goto(path)
                faint[f"{path} {scheme}"] = await page.evaluate(TOO_FAINT)
            await page.goto("/machines")
            await page.evaluate(ALL_STATES)
            faint[f"states {scheme}"] = await page.evaluate(TOO_FAINT)

    assert {where: what for where, what in faint.items() if what} == {}


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
async def test_long_names_leave_nothing_beyond_the_edge(tmp_path: Path, width: int, height: int) -> None:
    async with place(tmp_path) as it:
        ledger, odd = it.given.ledger, "fr-dddddddddddd"
        for number, name in ((9, LONG), (10, HOSTILE)):
            machine = f"{odd[:-2]}{number:02}"
            await ledger.reserve(machine, "small", "kvm-1", SMALL, "sha256:1")
            await ledger.begin_ask(machine)
            await ledger.take(machine, NewJob(number, "t", name, 3, "g/" + "sub/" * 60, 60))
        await ledger.use_host("kvm-1", HostUse.CORDONED, LONG)
        it.given.silent = HOSTILE
        page = await it.page(viewport={"width": width, "height": height})
        beyond, rows = {}, {}
        for path in ("/", "/machines", "/hosts", "/jobs", "/journal", "/jobs/9"):
            await page.goto(path)
            beyond[path] = await page.evaluate(
                "[document.documentElement, ...document.querySelectorAll('.scroll')]"
                ".map((each) => each.scrollWidth - each.clientWidth)"
            )
            rows[path] = await page.evaluate(
                "Math.max(0, ...[...document.querySelectorAll('.t-machines tr, .t-jobs tr')]"
                ".map((row) => row.offsetHeight))"
            )
        why = (
            await (await it.page(viewport={"width": width, "height": height})).locator(".why").bounding_box()
        )

    assert {path: sizes for path, sizes in beyond.items() if max(sizes) > 0} == {}
    assert max(rows.values()) < 200  # pixels: a name takes a few lines, not the screen
    assert why is not None
    assert why["width"] > 150  # words, not a column of letters


async def test_whose_row_goes_is_left_at_the_next_one_that_is_shown(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        it.given.crowd(5)
        page = await it.page("/machines")
        await expect(page.locator("#live")).to_have_text("live")
        await page.keyboard.press("/")
        await page.keyboard.type("fr-00000000000")
        counted = await page.locator(".filter .count").inner_text()
        await page.locator("#machine-fr-000000000001 a").first.focus()
        del it.given.more[1]
        await it.given.move_one_of_crowd(0, MachineState.CREATING)
        await expect(page.locator("#machine-fr-000000000001")).to_have_count(0)
        after = await focused(page)

    assert counted == "5 of 7"
    assert after == "fr-000000000002"


async def test_a_page_that_hears_nothing_says_so_and_asks_anew(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        page = await it.page("/machines")
        await expect(page.locator("#live")).to_have_text("live")
        await page.clock.install()
        await page.reload()
        await expect(page.locator("#live")).to_have_text("live")
        async with page.expect_request("**/live?*"):
            await page.clock.fast_forward(60_000)
        await expect(page.locator("#live")).to_have_text("live")


async def test_a_page_stands_still_for_as_long_as_one_wishes(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        page, other = await it.page("/machines"), await it.page("/machines")
        await expect(page.locator("#live")).to_have_text("live")
        await page.keyboard.press("p")
        await expect(page.locator("#live")).to_have_text("paused")
        await it.given.ledger.move_machine(A, MachineState.BOOTING)
        await expect(other.locator(f"#machine-{A}")).to_contain_text("booting")
        still = await page.locator(f"#machine-{A}").inner_text()
        await page.get_by_role("button", name="Go on").press("Enter")
        await expect(page.locator(f"#machine-{A}")).to_contain_text("booting")
        await expect(page.locator("#live")).to_have_text("live")

    assert "creating" in still


async def test_without_script_there_is_nothing_that_does_nothing(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        page = await it.page("/machines", java_script_enabled=False)
        row = await page.locator(f"#machine-{A}").inner_text()
        shown = [await page.locator(what).is_visible() for what in ("#live", "#pause", "input[type=search]")]

    assert "since Jan 01 00:16:40" in row
    assert shown == [False, False, False]


async def test_a_thousand_machines_are_filtered_and_followed(tmp_path: Path) -> None:
    async with place(tmp_path) as it:
        it.given.crowd(1000)
        page = await it.page("/machines")
        await expect(page.locator("#live")).to_have_text("live")
        await page.keyboard.press("/")
        await page.keyboard.type("000777")
        await expect(page.locator("#machines tr:visible")).to_have_count(1)
        await it.given.move_one_of_crowd(777, MachineState.CREATING)
        await expect(page.locator("#machines tr:visible")).to_contain_text("creating")
        count = await page.locator("#machines tr").count()

    assert count == 1002
