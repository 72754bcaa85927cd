"""When to try again."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firerunner.gitlab.backoff import MAX_RETRY_AFTER_S, delay_s, retry_after_s, wait_s

NOW = 1_445_412_000.0
"""Wed, 21 Oct 2015 07:20:00 GMT"""


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "17"}, 17.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 480.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:00:00 GMT"}, 0.0),
        ({"RateLimit-ResetTime": "Wed, 21 Oct 2015 07:28:00 GMT"}, 480.0),
        ({"Retry-After": "soon", "RateLimit-ResetTime": "Wed, 21 Oct 2015 07:28:00 GMT"}, 480.0),
        ({"Retry-After": "99999999999999999999"}, MAX_RETRY_AFTER_S),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "²"}, None),
        ({"Retry-After": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_the_other_sides_wish(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(httpx.Headers([(k, v.encode()) for k, v in headers.items()]), NOW) == seconds


@given(st.text(max_size=40))
def test_any_wish_is_a_bounded_number_or_none(value: str) -> None:
    seconds = retry_after_s({"Retry-After": value}, NOW)

    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER_S


@given(attempt=st.integers(0, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_the_delay_grows_and_stays_within_its_bounds(attempt: int, jitter: float) -> None:
    delay = delay_s(attempt, jitter=jitter)

    assert 0.25 <= delay <= 60.0
    assert delay <= delay_s(attempt + 1, jitter=jitter)


@given(wish=st.floats(0, 3600), jitter=st.floats(0, 1, exclude_max=True))
def test_a_wish_is_never_undercut_within_the_cap(wish: float, jitter: float) -> None:
    assert min(wish, 60.0) <= wait_s(3, wish, jitter=jitter) <= 60.0
