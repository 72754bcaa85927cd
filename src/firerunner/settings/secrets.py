"""Secrets in the configuration: given as `x`, or in a file as `x_file`; never both, never empty.

A relative path is looked for in systemd's credentials directory (systemd.exec(5), LoadCredential=), then
beside the configuration file. Docker's secrets are files as well: `/run/secrets/NAME`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from firerunner.settings.values import Section

_base: ContextVar[Path] = ContextVar("the directory of the configuration file", default=Path())
_read: ContextVar[set[Path] | None] = ContextVar("secret files that have been read", default=None)
_lenient: ContextVar[bool] = ContextVar("placeholders stand for secrets that are missing", default=False)

PLACEHOLDERS: Mapping[str, str] = {
    "runner_token": "not-there-yet",
    "webhook_secret": "not-there-yet",
    "webhook_signing_token": f"whsec_{'A' * 43}=",
}
"""What stands for a secret whose file is still to be written, in settings that `gitlab setup` reads."""


@contextmanager
def reading_beside(config: Path, *, lenient: bool = False) -> Iterator[set[Path]]:
    """While it runs, relative paths count from `config`'s directory; gives the files that were read.

    `lenient`: a missing or empty file of a secret in `PLACEHOLDERS` is no mistake.
    """
    files: set[Path] = set()
    base, read, given = _base.set(config.absolute().parent), _read.set(files), _lenient.set(lenient)
    try:
        yield files
    finally:
        _base.reset(base)
        _read.reset(read)
        _lenient.reset(given)


def found_path(path: Path) -> Path:
    """Where a file of the configuration is: see the first lines of this module."""
    if path.is_absolute():
        return path
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and Path(credentials, path).exists():
        return Path(credentials, path)
    return _base.get() / path


def _readable(path: Path) -> Path:
    found = found_path(path)
    try:
        with found.open("rb"):
            return found
    except OSError as error:
        raise ValueError(f"cannot read {found}: {error.strerror}") from error


ConfigFile = Annotated[Path, AfterValidator(found_path)]
"""A file that the configuration names; a relative path is looked for like a secret's."""

ReadableFile = Annotated[Path, AfterValidator(_readable)]
"""The same, of a file that has to be there already."""


class WithSecrets(Section):
    """A section in which each secret `x` may be given as `x` or as `x_file`, but not as both.

    The last line break of a file is not part of the secret.
    """

    _secret_paths: dict[str, Path] = PrivateAttr(default_factory=dict)

    def secret_path(self, name: str) -> Path | None:
        """The file that the configuration names for a secret, there or not; None if it names none."""
        return self._secret_paths.get(name)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Each secret has a second key, and needs neither where the other is given."""
        described = handler.resolve_ref_schema(handler(schema))
        secrets = secret_fields(cls)
        for name in secrets:
            described["properties"][f"{name}_file"] = {
                "type": "string",
                "description": f"A file that holds `{name}`.",
            }
        required = [name for name in described.get("required", []) if name not in secrets]
        described["required"] = required
        return described

    @model_validator(mode="wrap")
    @classmethod
    def _read_files(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, dict):
            return handler(data)
        data, paths = dict(data), {}
        for name in secret_fields(cls):
            path = data.pop(f"{name}_file", None)
            if path is None:
                continue
            if data.get(name) is not None:
                raise ValueError(f"{name} and {name}_file are both given; keep one")
            paths[name] = found_path(Path(str(path)))
            data[name] = _content(name, paths[name])
        section = handler(data)
        section._secret_paths = paths
        return section


def secret_fields(section: type[Section]) -> list[str]:
    """The names of the section's secrets."""
    return [name for name, field in section.model_fields.items() if _is_secret(field.annotation)]


def _content(name: str, path: Path) -> str:
    files = _read.get()
    if files is not None:
        files.add(path)
    placeholder = PLACEHOLDERS.get(name) if _lenient.get() else None
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except FileNotFoundError as error:
        if placeholder is not None:
            return placeholder
        hint = "; `firerunner gitlab setup` writes it" if name in PLACEHOLDERS else ""
        raise ValueError(f"{name}_file: cannot read {path}: there is no such file{hint}") from error
    except PermissionError as error:
        raise ValueError(
            f"{name}_file: cannot read {path}: not for this user; "
            "give the file the group of the service's user and mode 0640"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}_file: cannot read {path}: it is not text in UTF-8") from error
    except OSError as error:
        raise ValueError(f"{name}_file: cannot read {path}: {error.strerror}") from error
    if not text and placeholder is not None:
        return placeholder
    if not text:
        raise ValueError(f"{name}_file: {path} is empty")
    return text


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or SecretStr in getattr(annotation, "__args__", ())
