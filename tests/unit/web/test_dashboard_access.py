"""Who gets into the dashboard, with which right; sessions, forms of other sites, headers."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

import httpx
import pytest
from web_given import CANARIES, OPERATE, READ, A, Given

from firerunner.ledger import MachineState
from firerunner.web.dashboard.app import COOKIE, HEADERS, SECURE_COOKIE
from firerunner.web.sessions import LIFE_S

pytestmark = pytest.mark.anyio

HERE = "http://127.0.0.1:8080"
SITE = "http://firerunner.example.com"
PAGES = (
    *("/", "/machines", "/hosts", "/jobs", "/journal", "/jobs/7", f"/machines/{A}", "/journal?subject=7"),
    *("/hosts/kvm-1/cordon", "/hosts/kvm-1/drain", f"/machines/{A}/destroy", "/jobs/7/cancel"),
)
FORMS = ("/hosts/kvm-1/cordon", f"/machines/{A}/destroy", "/jobs/7/cancel", "/sign-out")


async def sign_in(given: Given, token: str, origin: str = SITE, **fields: str) -> httpx.Response:
    headers = {"Origin": origin} if origin else {}
    data = {"token": token, "next": "/"} | fields
    return await given.ask("/sign-in", method="POST", data=data, headers=headers)


async def session(given: Given, token: str) -> str:
    """The cookie of a new session, as a header's value."""
    answer = await sign_in(given, token)
    assert answer.status_code == 303, answer.text
    return answer.headers["set-cookie"].partition(";")[0]


async def look(given: Given, path: str, cookie: str | None, **more: Any) -> httpx.Response:
    return await given.ask(path, headers={"Cookie": cookie} if cookie else {}, **more)


async def form_token(given: Given, cookie: str) -> str:
    (token,) = set(re.findall(r'name="form_token" value="(\w+)"', (await look(given, "/", cookie)).text))
    return token


async def act(given: Given, path: str, cookie: str, **change: Any) -> httpx.Response:
    """Send the form of that page, as a browser would but for what the test changes."""
    fields = {"form_token": await form_token(given, cookie), "reason": "new kernel"} | change.pop(
        "fields", {}
    )
    headers = {"Cookie": cookie, "Origin": SITE} | change
    headers = {name: value for name, value in headers.items() if value}
    return await given.ask(path, method="POST", data=fields, headers=headers)


async def audit(given: Given) -> list[str]:
    return [
        entry.event for entry in await given.ledger.journal(limit=1000) if entry.subject_kind == "operator"
    ]


async def test_each_page_is_for_who_has_shown_a_token(given: Given) -> None:
    await given.fill()
    forged = f"{COOKIE}=9999999999.{'A' * 22}.{'0' * 64}"
    cookies = {"none": None, "forged": forged}
    cookies |= {"read": await session(given, READ), "operate": await session(given, OPERATE)}

    got = {
        path: [(await look(given, path, cookie)).status_code for cookie in cookies.values()] for path in PAGES
    }
    shown = "".join([(await look(given, path, cookies["operate"])).text for path in PAGES])
    by_bearer = await given.ask("/", OPERATE)
    streams = [await look(given, "/live?view=jobs", cookie) for cookie in (None, forged)]

    assert got == {path: [303, 303, 200, 200] for path in PAGES}
    assert by_bearer.headers["location"] == "/sign-in?next=%2F"
    assert [answer.status_code for answer in streams] == [401, 401]
    assert [secret for secret in CANARIES if secret in shown] == []
    assert "may read" in (await look(given, "/", cookies["read"])).text
    assert "may operate" in (await look(given, "/", cookies["operate"])).text


async def test_no_form_is_taken_from_who_is_not_signed_in(given: Given) -> None:
    await given.fill()
    form = {"method": "POST", "data": {"reason": "x", "form_token": "0" * 64}, "headers": {"Origin": SITE}}

    got = [(await given.ask(path, OPERATE, **form)).status_code for path in FORMS]

    assert got == [401] * len(FORMS)
    assert (await audit(given), given.destroyed, given.cancelled) == ([], [], [])


async def test_without_settings_it_is_closed_and_says_how_to_open_it(given: Given) -> None:
    given.configure(None, None)

    for path in (*PAGES, "/sign-in", "/live?view=jobs"):
        answer = await look(given, path, None, peer="127.0.0.1", url=HERE)
        assert (answer.status_code, "api.read_token" in answer.text) == (403, True) or path.startswith(
            "/live"
        )
    assert (await sign_in(given, READ)).status_code == 403


async def test_on_loopback_it_is_open_for_reading_if_that_is_said(given: Given) -> None:
    given.configure(None, OPERATE, loopback=True)
    await given.fill()

    here = await look(given, "/hosts/kvm-1/cordon", None, peer="127.0.0.1", url=HERE)
    rebound = await look(given, "/", None, peer="127.0.0.1", url="http://evil.example.com")
    forwarded = await given.ask("/", peer="127.0.0.1", url=HERE, headers={"X-Forwarded-For": "192.0.2.1"})
    data = {"reason": "x", "form_token": ""}
    acted = await given.ask(
        *("/hosts/kvm-1/cordon",),
        method="POST",
        data=data,
        headers={"Origin": HERE},
        peer="127.0.0.1",
        url=HERE,
    )

    assert (here.status_code, "You may read only" in here.text) == (200, True)
    assert [answer.status_code for answer in (rebound, forwarded)] == [303, 303]
    assert (acted.status_code, await audit(given)) == (403, [])


async def test_a_held_machine_is_released_on_its_page(given: Given) -> None:
    await given.fill()
    for state in (MachineState.BOOTING, MachineState.WAITING, MachineState.BUSY):
        await given.ledger.move_machine(A, state)
    await given.ledger.hold(A, 60.0, 1)
    operates, path = await session(given, OPERATE), f"/machines/{A}/release"

    page = (await look(given, f"/machines/{A}", operates)).text
    done, again = await act(given, path, operates), await act(given, path, operates)

    machine = await given.ledger.machine(A)
    assert f'href="{path}"' in page
    assert "Held until" in page
    assert (done.status_code, again.status_code) == (303, 409)
    assert await audit(given) == ["release"]
    assert machine is not None
    assert machine.held_until == 1000.0


async def test_acts_need_the_operating_token_and_are_written_down(given: Given) -> None:
    await given.fill()
    reads, operates = await session(given, READ), await session(given, OPERATE)
    paths = {"cordon": FORMS[0], "drain": "/hosts/kvm-1/drain", "destroy": FORMS[1], "cancel": FORMS[2]}

    refused = [(await act(given, path, reads)).status_code for path in paths.values()]
    before = await audit(given)
    done = [(await act(given, path, operates)).status_code for path in paths.values()]

    assert (refused, before, done) == ([403] * 4, [], [303] * 4)
    rows = [row for row in await given.ledger.journal(limit=1000) if row.subject_kind == "operator"]
    assert [(row.event, row.subject) for row in rows] == [
        *(("cordon", "kvm-1"), ("drain", "kvm-1"), ("destroy", A), ("cancel", "7"))
    ]
    told = {(row.detail["reason"], row.detail["client"], row.detail["who"]) for row in rows}
    assert told == {("new kernel", "192.0.2.1", sha256(OPERATE.encode()).hexdigest()[:8])}
    assert given.destroyed == [(A, "destroyed by an operator (new kernel)")]
    assert given.cancelled == [7]


REFUSED: list[tuple[dict[str, Any], int]] = [
    ({"Origin": ""}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": "http://evil.example.com"}, 403),
    ({"Origin": "http://firerunner.example.com.evil.example"}, 403),
    ({"Origin": "http://firerunner.example.com:81"}, 403),
    ({"Origin": "http://[firerunner"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"fields": {"form_token": ""}}, 403),
    ({"fields": {"form_token": "0" * 64}}, 403),
    ({"fields": {"form_token": "é"}}, 403),
    ({"Content-Type": "application/json"}, 415),
    ({"Content-Type": "text/plain"}, 415),
    ({"fields": {"reason": ""}}, 422),
    ({"fields": {"reason": "two\nlines"}}, 422),
    ({"fields": {"reason": "x" * 501}}, 422),
    ({"fields": {f"more{number}": "x" for number in range(10)}}, 400),
    ({"fields": {"reason": ["one", "two"]}}, 400),
    ({"fields": {"reason": "x" * 20_000}}, 413),
]
"""What is changed in a form that is else right, and the answer."""


async def test_a_form_is_taken_only_from_the_page_it_stands_on(given: Given) -> None:
    cookie = await session(given, OPERATE)

    answers = [await act(given, "/hosts/kvm-1/cordon", cookie, **dict(change)) for change, _ in REFUSED]

    assert [answer.status_code for answer in answers] == [status for _, status in REFUSED]
    assert await audit(given) == []
    assert (await act(given, "/hosts/kvm-1/cordon", cookie)).status_code == 303


async def test_a_form_of_another_session_is_refused(given: Given) -> None:
    mine, other = await session(given, OPERATE), await session(given, OPERATE)
    fields = {"form_token": await form_token(given, other)}

    assert (await act(given, "/hosts/kvm-1/cordon", mine, fields=fields)).status_code == 403


async def test_the_cookie_is_kept_from_scripts_and_other_sites(given: Given) -> None:
    plain = (await sign_in(given, READ)).headers["set-cookie"]
    headers = {"Origin": "https://firerunner.example.com"}
    secure = (await given.ask("/sign-in", method="POST", data={"token": READ}, headers=headers)).headers[
        "set-cookie"
    ]

    for cookie in (plain, secure):
        assert {"HttpOnly", "SameSite=strict", "Path=/", f"Max-Age={LIFE_S}"} <= set(cookie.split("; "))
        assert READ not in cookie
    assert plain.startswith(f"{COOKIE}=")
    assert secure.startswith(f"{SECURE_COOKIE}=")
    assert "Secure" in secure.split("; ")


async def test_a_session_ends_with_time_with_its_token_and_when_signed_out(given: Given) -> None:
    late, changed, left = [await session(given, READ) for _ in range(3)]

    out = await act(given, "/sign-out", left)
    assert (out.status_code, out.headers["location"]) == (303, "/sign-in")
    assert all("Max-Age=0" in cookie for cookie in out.headers.get_list("set-cookie"))
    assert (await look(given, "/", left)).status_code == 303
    assert (await look(given, "/", changed)).status_code == 200
    given.configure("n" * 32, OPERATE)
    assert (await look(given, "/", changed)).status_code == 303
    given.configure()
    given.now += LIFE_S - 1
    assert (await look(given, "/", late)).status_code == 200
    given.now += 1
    assert (await look(given, "/", late)).status_code == 303


async def test_wrong_tokens_are_limited_and_the_right_one_is_not(given: Given) -> None:
    given.configure(failures_per_minute=3)

    wrong = [(await sign_in(given, "x" * 32)) for _ in range(5)]

    assert [answer.status_code for answer in wrong] == [401, 401, 401, 429, 429]
    assert "Retry-After" in wrong[-1].headers
    assert (await sign_in(given, READ)).status_code == 303
    assert all("set-cookie" not in answer.headers for answer in wrong)


async def test_another_site_signs_nobody_in(given: Given) -> None:
    for origin in ("", "null", "http://evil.example.com"):
        answer = await sign_in(given, READ, origin)

        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


NEXT = {
    "/jobs/7": "/jobs/7",
    "/journal?subject=kvm-1": "/journal?subject=kvm-1",
    "//evil.example.com": "/",
    "/\\evil.example.com": "/",
    "https://evil.example.com": "/",
    "javascript:alert(1)": "/",
    "/x\r\nSet-Cookie: a=b": "/",
    "/" + "x" * 400: "/",
}


async def test_after_signing_in_nobody_is_sent_elsewhere(given: Given) -> None:
    got = {wanted: (await sign_in(given, READ, next=wanted)).headers["location"] for wanted in NEXT}

    assert got == NEXT


ANSWERS = dict.fromkeys((*PAGES, "/static/dashboard.css", "/sign-in", "/journal?before=3"), 200) | {
    **{"/jobs/8/pause": 404, "/jobs/99": 404, "/jobs/x": 404, f"/jobs/{'9' * 30}": 404, "/hosts/": 404},
    **{"/machines/x": 404, "/machines/a%0Ab": 404, "/static/nothing": 404, "/static/..%2fapp.py": 404},
    **{"/journal?before=x": 404, "/live?view=nothing": 404, "/journal?subject=%00%ff": 200},
}


async def test_all_answers_carry_the_headers(given: Given) -> None:
    await given.fill()
    cookie = await session(given, READ)

    got = {path: await look(given, path, cookie) for path in ANSWERS}

    assert {path: answer.status_code for path, answer in got.items()} == ANSWERS
    for answer in got.values():
        assert [answer.headers.get_list(name) for name in HEADERS] == [[value] for value in HEADERS.values()]
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    pages = "".join(answer.text for path, answer in got.items() if not path.startswith("/static"))
    assert not re.search(r"\son\w+=|\sstyle=|<style|https?://", pages)


async def test_requests_are_counted_by_right(given: Given) -> None:
    await look(given, "/jobs", None)
    await look(given, "/jobs", await session(given, READ))

    assert (given.counted("none", 303), given.counted("read", 200)) == (2, 1)
