"""The request of a seed and a number, always the same but for the secrets of the day."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.fuzz import hostile, insider, mutated
from tests.fuzz.items import Facts, Item
from tests.fuzz.malformed import malformed

_MAKERS: tuple[tuple[Callable[[random.Random, Facts], Item], int], ...] = (
    (hostile.webhook, 12),
    (hostile.api, 12),
    (hostile.gate, 12),
    (mutated.webhook, 13),
    (mutated.api, 13),
    (mutated.gate, 18),
    (malformed, 15),
    (insider.guest, 2),
    (insider.hook, 3),
)
_WEIGHTS = [weight for _, weight in _MAKERS]


def made(seed: int, index: int, facts: Facts) -> Item:
    """The one of that number."""
    chance = random.Random(f"{seed}:{index}")
    (maker,) = chance.choices([maker for maker, _ in _MAKERS], _WEIGHTS)
    return maker(chance, facts)
