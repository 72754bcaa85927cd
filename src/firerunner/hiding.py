"""Keeps secrets out of where they do not belong: what others say, what programs inherit, what a crash leaves.

Whoever is shown a token may repeat it in an error message. So where a peer's words come in, what the peer was
shown in that call goes out of them, in each form in which it may come back.
"""

from __future__ import annotations

import base64
import json
import resource
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

HIDDEN: Final = "***"

SHORTEST: Final = 6
"""A secret of fewer characters would turn up in ordinary words."""


def without(text: str, secrets: Iterable[str | None]) -> str:
    """The text with stars for each of the secrets: as it is, as Python, JSON or a URL writes it, in
    base64."""
    for secret in sorted({each for each in secrets if each and len(each) >= SHORTEST}, key=len, reverse=True):
        for form in _forms(secret):
            text = text.replace(form, HIDDEN)
    return text


def _forms(secret: str) -> Iterable[str]:
    encoded = secret.encode("utf-8", "surrogatepass")
    return (
        secret,
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        quote(encoded, safe=""),
        base64.b64encode(encoded).decode().rstrip("="),
        base64.urlsafe_b64encode(encoded).decode().rstrip("="),
    )


def environment_for_programs(environment: Mapping[str, str]) -> dict[str, str]:
    """Our environment without what it may say of the configuration, for programs that need the rest of it."""
    return {
        name: value
        for name, value in environment.items()
        if not name.upper().startswith("FIRERUNNER_") and name != "GITLAB_TOKEN"
    }


def leave_no_core() -> None:
    """A crash writes no core file: all secrets would be in it."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
