"""The drivers that the contract suite runs against."""

from __future__ import annotations

import pytest

from tests.contract.kits import Kit
from tests.contract.lab import (
    flintlock_kit,
    qemu_kit,
    real_flintlock_kit,
    restored_kit,
    saved_states,
    test_guest,
)
from tests.contract.real_flintlock import is_given

__all__ = [
    "flintlock_kit",
    "kit",
    "qemu_kit",
    "real_flintlock_kit",
    "restored_kit",
    "saved_states",
    "test_guest",
]

SEEING = ("qemu_kit", "restored_kit")
"""Drivers that see how a VMM ended. Flintlock tells nothing of it: the guest's word and deadlines count."""

KITS = (*SEEING, "flintlock_kit", *(("real_flintlock_kit",) if is_given() else ()))


@pytest.fixture(params=KITS)
def kit(request: pytest.FixtureRequest) -> Kit:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=SEEING)
def seeing_kit(request: pytest.FixtureRequest) -> Kit:
    return request.getfixturevalue(request.param)
