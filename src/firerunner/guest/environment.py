"""The environment that an image brings for gitlab-runner and what it starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PLACE: Final = "/etc/firerunner/environment"
"""Where the second stage (`files/pid1.sh`) reads it: one `NAME=value` in each line, nothing quoted."""


def environment_files(variables: Iterable[tuple[str, str]]) -> dict[str, bytes]:
    """By their place in the root file system; none without variables."""
    lines = "".join(f"{name}={value}\n" for name, value in variables)
    return {PLACE: lines.encode()} if lines else {}
