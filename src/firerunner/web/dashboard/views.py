"""A view: what a page shows, as keyed pieces of HTML, and how one becomes the next. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import chain

Pieces = Mapping[str, str]
"""HTML elements by their `id`, in order."""


@dataclass(frozen=True, eq=False)
class View:
    """The pieces of each place on a page, by the place's `id`."""

    places: Mapping[str, Pieces]

    @cached_property
    def version(self) -> str:
        """The same for the same content, whoever made it and whenever."""
        digest = sha256()
        for place, pieces in self.places.items():
            for part in (place, *chain.from_iterable(pieces.items())):
                digest.update(part.encode(errors="replace") + b"\0")
        return digest.hexdigest()[:32]

    @cached_property
    def whole(self) -> str:
        """The message that makes a page show this, whatever it showed before."""
        return _message(
            [{"place": place, "all": list(pieces.values())} for place, pieces in self.places.items()]
        )


def change(old: View, new: View) -> str | None:
    """The message that makes a page that shows the old view show the new one; None if that is the same."""
    changes = []
    for place, pieces in new.places.items():
        told = _place(place, old.places.get(place), pieces)
        if told is not None:
            changes.append(told)
    return _message(changes) if changes else None


def _place(place: str, old: Pieces | None, new: Pieces) -> dict[str, object] | None:
    if old is None or [key for key in old if key in new] != [key for key in new if key in old]:
        return {"place": place, "all": list(new.values())}
    put, before = [], None
    for key, html in new.items():
        if old.get(key) != html:
            put.append([key, before, html])
        before = key
    drop = [key for key in old if key not in new]
    return {"place": place, "put": put, "drop": drop} if put or drop else None


def _message(changes: list[dict[str, object]]) -> str:
    return json.dumps(changes, separators=(",", ":"))
