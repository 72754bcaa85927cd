"""A pool's own `config.toml` for the runner in its guests: what it may say, and what it may not.

The runner's GitLab is the gate and its token is worth one ask, so nothing in a pool's fragment may name
another URL or token (reference for the keys: gitlab-runner docs/configuration/advanced-configuration.md).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any, Final

OURS: Final = frozenset(
    {
        "id",
        "name",
        "url",
        "token",
        "token_obtained_at",
        "token_expires_at",
        "clone_url",
        "tls-ca-file",
        "tls-cert-file",
        "tls-key-file",
        "limit",
        "request_concurrency",
        "builds_dir",
        "cache_dir",
    }
)
"""Keys of `[[runners]]` that tie the runner to its gate and its machine."""

EXECUTORS: Final = ("shell", "docker")
"""Executors that can run a job inside one machine; the others would start machines of their own."""


def parse_fragment(text: str) -> dict[str, Any]:
    """What the fragment adds to `[[runners]]`. Raises ValueError that says what is wrong.

    Both forms are understood: the keys of `[[runners]]` alone, or a whole file with one `[[runners]]`.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"is not TOML: {error}") from error
    if "runners" in data:
        runners = data.pop("runners")
        if data:
            raise ValueError(f"`{min(data)}` stands outside of [[runners]]; only that section can be given")
        if isinstance(runners, list):
            if len(runners) != 1:
                raise ValueError(f"holds {len(runners)} [[runners]] sections; one is expected")
            runners = runners[0]
        data = runners
    if not isinstance(data, dict):
        raise ValueError("`runners` must be a section, [[runners]]")
    return _checked(data)


def _checked(data: Mapping[str, Any]) -> dict[str, Any]:
    ours = sorted(OURS & set(data))
    if ours:
        raise ValueError(f"`{ours[0]}` is set by FireRunner and cannot be given; take it out")
    executor = data.get("executor", EXECUTORS[0])
    if executor not in EXECUTORS:
        raise ValueError(f"executor {executor!r} cannot work inside a machine; use {' or '.join(EXECUTORS)}")
    environment = data.get("environment", [])
    if not isinstance(environment, list) or not all(
        isinstance(entry, str) and "=" in entry for entry in environment
    ):
        raise ValueError('environment: expected a list of "NAME=value"')
    for name in ("docker", "cache", "feature_flags"):
        if name in data and not isinstance(data[name], dict):
            raise ValueError(f"{name}: expected a section, [runners.{name}]")
    return dict(data)
