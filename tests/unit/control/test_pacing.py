"""Looks at everything take a small part of the time, and are never far apart."""

from __future__ import annotations

import pytest

from firerunner.control.pacing import pause_s


@pytest.mark.parametrize(
    ("took_s", "pause"),
    [
        (0.001, 0.5),
        (0.1, 3.0),
        (10.0, 10.0),  # it waited for a database that was away
        (600.0, 10.0),
    ],
)
def test_a_look_that_took_long_is_followed_by_a_longer_rest_but_not_by_minutes(
    took_s: float, pause: float
) -> None:
    assert pause_s(0.5, took_s) == pytest.approx(pause)
