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
            await expect(page.locator("#live")).to_have_text("not live: trying again")
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
