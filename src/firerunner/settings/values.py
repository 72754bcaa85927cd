"""The kinds of value that several subjects share: durations, addresses, secrets from files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, model_validator

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):(?P<port>\d{1,5})")
_MAX_PORT = 65535


class Section(BaseModel):
    """A part of the configuration: immutable, and closed against unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _seconds(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if value.strip() == "" or match is None:
        raise ValueError("expected a duration such as 30s, 5m, 1h30m or a number of seconds")
    hours, minutes, seconds = match.groups(default="0")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _address(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("expected host:port")
    match = _ADDRESS.fullmatch(value)
    if match is None or int(match["port"]) > _MAX_PORT:
        raise ValueError("expected host:port, for example 127.0.0.1:8080 or [::1]:8080")
    return value


Duration = Annotated[float, BeforeValidator(_seconds)]
"""Seconds; written as `30s`, `5m`, `1h30m` or a plain number of seconds."""

Address = Annotated[str, BeforeValidator(_address)]
"""A TCP address, `host:port`."""


def split_address(address: str) -> tuple[str, int]:
    """`host:port` as its two parts, the brackets of an IPv6 address taken off."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class WithSecrets(Section):
    """A section in which each secret `x` may be given as `x` or as `x_file`, but not as both.

    The file is read once, at load; its last line break is not part of the secret.
    """

    @model_validator(mode="before")
    @classmethod
    def _read_files(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        for name, field in cls.model_fields.items():
            path = data.pop(f"{name}_file", None) if _is_secret(field.annotation) else None
            if path is None:
                continue
            if data.get(name) is not None:
                raise ValueError(f"{name} and {name}_file are both given; keep one")
            try:
                data[name] = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"{name}_file: cannot read {path}: {error}") from error
            if not data[name]:
                raise ValueError(f"{name}_file: {path} is empty")
        return data


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or SecretStr in getattr(annotation, "__args__", ())
