"""What runs in the processes that share the scenarios."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import structlog

from tests.chaos.scenario import Verdict, play
from tests.sim import timeline


def quiet() -> None:
    """Each service would log its own deaths."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def scenario(work: tuple[Path, int, list[Any], Path]) -> Verdict:
    """One, from its start to its verdict."""
    folder, seed, deaths, template = work
    return timeline.run(play(folder, seed, deaths, template=template))
