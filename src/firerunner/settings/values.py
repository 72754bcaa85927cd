"""The kinds of value that several subjects share: durations, addresses, networks, lists of words."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):(?P<port>\d{1,5})")
_MAX_PORT = 65535

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Section(BaseModel):
    """A part of the configuration: immutable, and closed against unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True
    )


def _seconds(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if value.strip() == "" or match is None:
        try:
            return float(value)
        except ValueError:
            raise ValueError("expected a duration such as 30s, 5m, 1h30m or a number of seconds") from None
    hours, minutes, seconds = match.groups(default="0")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _address(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("expected host:port")
    match = _ADDRESS.fullmatch(value)
    if match is None or int(match["port"]) > _MAX_PORT:
        raise ValueError("expected host:port, for example 127.0.0.1:8080 or [::1]:8080")
    return value


def _words(value: Any) -> Any:
    """A list, or one string with commas, as an environment variable gives it."""
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return value


def _network(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return ipaddress.ip_network(value)
        except ValueError as error:
            raise ValueError(f"expected a network such as 10.0.0.0/8 or 2001:db8::/32: {error}") from None
    return value


_WORDS_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]}
)

Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^([0-9]+h)?([0-9]+m)?"}]}),
]
"""Seconds; written as `30s`, `5m`, `1h30m` or a plain number of seconds."""

Address = Annotated[str, BeforeValidator(_address)]
"""A TCP address, `host:port`."""

Words = Annotated[tuple[str, ...], BeforeValidator(_words), _WORDS_SCHEMA]
"""A list of words; in an environment variable, separated by commas."""

Networks = Annotated[
    tuple[Annotated[Network, BeforeValidator(_network)], ...], BeforeValidator(_words), _WORDS_SCHEMA
]
"""A list of networks in CIDR form, IPv4 and IPv6; a single address is a network of one."""


def split_address(address: str) -> tuple[str, int]:
    """`host:port` as its two parts, the brackets of an IPv6 address taken off."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def checked_url(value: str, *, user_allowed: bool = False) -> str:
    """A base address without a slash at its end. Raises ValueError that says what is expected."""
    parts = urlsplit(value)
    try:
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        port_is_right = False
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_right:
        raise ValueError(f"expected http(s)://host[:port][/path], got {without_user(value)!r}")
    if (parts.username and not user_allowed) or parts.query or parts.fragment:
        raise ValueError("the address must hold no user, query or fragment")
    return value.rstrip("/")


def without_user(value: str) -> str:
    """The address without what could be a user and a password, also where it is not well formed: all before
    the last `@` goes, but for the scheme."""
    before, at, rest = value.rpartition("@")
    if not at:
        return value
    scheme, slashes, _ = before.partition("://")
    return f"{scheme}://***@{rest}" if slashes and scheme.isalnum() else f"***@{rest}"
