"""The limit on failed authentications: for each client, only on failures, and in bounded memory."""

from __future__ import annotations

from unittest import mock

import pytest
from door_given import JOB_HOOK, SECRET, Given, gitlab
from hypothesis import given as every
from hypothesis import settings
from hypothesis import strategies as st

from firerunner.intake.limiting import PerClient

WRONG = {"X-Gitlab-Token": "wrong"}


@pytest.fixture
def given() -> Given:
    given = Given()
    given.configure(gitlab(secret="s3cret"), failures_per_minute=3, trusted_proxies="10.0.0.0/8")
    return given


@pytest.mark.anyio
async def test_further_failures_get_429_and_when_to_come_again(given: Given) -> None:
    answers = [await given.post(JOB_HOOK, WRONG) for _ in range(5)]

    assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert "retry-after" not in answers[0].headers
    assert given.counted == ["unauthenticated"] * 3 + ["limited"] * 2


@pytest.mark.anyio
async def test_an_authentic_hook_is_never_limited(given: Given) -> None:
    for _ in range(10):
        await given.post(JOB_HOOK, WRONG)

    answers = [await given.post(JOB_HOOK, SECRET) for _ in range(20)]

    assert {answer.status_code for answer in answers} == {200}
    assert len(given.woken) == 20


@pytest.mark.anyio
async def test_one_client_s_failures_are_not_another_s(given: Given) -> None:
    for _ in range(4):
        await given.post(JOB_HOOK, WRONG | {"X-Forwarded-For": "198.51.100.7"}, peer="10.0.0.1")

    other = await given.post(JOB_HOOK, WRONG | {"X-Forwarded-For": "198.51.100.8"}, peer="10.0.0.1")

    assert other.status_code == 401


@pytest.mark.anyio
async def test_one_ipv6_site_has_one_budget(given: Given) -> None:
    answers = [await given.post(JOB_HOOK, WRONG, peer=f"2001:db8:0:1::{last}") for last in range(1, 5)]
    other = await given.post(JOB_HOOK, WRONG, peer="2001:db8:0:2::1")

    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert other.status_code == 401


@pytest.mark.anyio
async def test_a_reload_forgets_no_failures_and_a_new_limit_counts_anew(given: Given) -> None:
    for _ in range(4):
        await given.post(JOB_HOOK, WRONG)
    given.configure(gitlab(secret="changed"), failures_per_minute=3)
    kept = await given.post(JOB_HOOK, WRONG)
    given.configure(gitlab(secret="changed"), failures_per_minute=5)

    assert kept.status_code == 429
    assert (await given.post(JOB_HOOK, WRONG)).status_code == 401


@settings(deadline=None)
@every(
    per_minute=st.integers(1, 4),
    steps=st.lists(st.tuples(st.floats(0, 40), st.sampled_from("abc")), max_size=40),
)
def test_no_client_has_more_than_its_budget_in_any_minute_and_none_is_kept_longer_than_said(
    per_minute: int, steps: list[tuple[float, str]]
) -> None:
    now = 1_700_000_000.0
    spent: dict[str, list[float]] = {"a": [], "b": [], "c": []}
    with mock.patch("time.time", lambda: now):
        budget = PerClient(per_minute)
        for wait, client in steps:
            now += wait
            recent = [at for at in spent[client] if at >= now - 60]
            retry_after_s = budget.spend(client)
            assert (retry_after_s is None) == (len(recent) < per_minute)
            if retry_after_s is None:
                spent[client].append(now)
            else:
                assert 1 <= retry_after_s <= 61
                assert now + retry_after_s >= recent[-per_minute] + 60


@settings(deadline=None)
@every(clients=st.lists(st.integers(0, 60), max_size=200))
def test_of_many_clients_only_the_latest_are_remembered(clients: list[int]) -> None:
    budget = PerClient(1, remembered=5)

    for client in clients:
        budget.spend(str(client))

    latest = list(dict.fromkeys(reversed(clients)))[:5]
    assert budget.clients() == [str(client) for client in reversed(latest)]
    assert [budget.spend(str(client)) is None for client in latest] == [False] * len(latest)
    forgotten = [client for client in dict.fromkeys(clients) if client not in latest]
    assert [budget.spend(str(client)) for client in forgotten] == [None] * len(forgotten)
