"""The drivers that the contract suite runs against."""

from __future__ import annotations

import pytest

from tests.contract.kits import Kit
from tests.contract.lab import qemu_kit, test_guest

__all__ = ["kit", "qemu_kit", "test_guest"]

KITS = ("qemu_kit",)


@pytest.fixture(params=KITS)
def kit(request: pytest.FixtureRequest) -> Kit:
    return request.getfixturevalue(request.param)
