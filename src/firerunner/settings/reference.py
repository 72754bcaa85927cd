"""Writes the reference of every setting out of the code: `python -m firerunner.settings.reference`."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from firerunner.settings.root import Settings
from firerunner.settings.secrets import WithSecrets, secret_fields
from firerunner.settings.values import Duration, Section

_HEAD = """# Settings

Every key of the configuration, generated from the code (`make reference`). `firerunner config check` names
every mistake, `firerunner config show` prints what is in force, `firerunner config schema` a JSON Schema for
editors. [Configuration](configuration.md) explains how a file, the environment and secrets go together.
"""


def reference() -> str:
    """The page, as Markdown."""
    return _HEAD + "\n".join(_pages()) + "\n"


def _pages() -> Iterator[str]:
    loose = [name for name in Settings.model_fields if nested_section(Settings, name) is None]
    yield "\n## Top level\n"
    yield from _table(Settings, loose)
    for name, field in Settings.model_fields.items():
        section = nested_section(Settings, name)
        if section is not None:
            yield from _chapter(section, name, field, _is_list(field))


def _chapter(section: type[Section], path: str, field: FieldInfo | None, several: bool) -> Iterator[str]:
    yield f"\n## `{path}`\n"
    said = inspect.getdoc(section) or ""
    yield _prose(f"{field.description}" if field and field.description else said.partition("\n\n")[0])
    if several:
        yield "\nA list of sections." + (" A single one may stand alone." if path == "gitlab" else "")
    yield ""
    nested = [name for name in section.model_fields if nested_section(section, name) is not None]
    yield from _table(section, [name for name in section.model_fields if name not in nested])
    for name in nested:
        inner = nested_section(section, name)
        if inner is not None:
            yield from _chapter(inner, f"{path}.{name}", section.model_fields[name], several=False)


def _table(model: type[BaseModel], names: list[str]) -> Iterator[str]:
    secrets = secret_fields(model) if issubclass(model, WithSecrets) else []
    yield "| key | default | meaning |\n|---|---|---|"
    for name in names:
        field = model.model_fields[name]
        key = f"`{name}`" + (f", `{name}_file`" if name in secrets else "")
        yield f"| {key} | {_default(field)} | {_prose(field.description or '')}{_limits(field)} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined or value in ((), {}, ""):
        return "none"
    if _is_duration(field):
        return f"`{_duration(value)}`"
    if isinstance(value, tuple | list):
        return "`[" + ", ".join(str(item) for item in value) + "]`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def _is_duration(field: FieldInfo) -> bool:
    return any(constraint in typing.get_args(Duration)[1:2] for constraint in field.metadata)


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds:g}s"


def _limits(field: FieldInfo) -> str:
    words = []
    for constraint in field.metadata:
        for bound, word in (("ge", "at least"), ("gt", "more than"), ("le", "at most")):
            if hasattr(constraint, bound):
                value = getattr(constraint, bound)
                words.append(f"{word} {_duration(value) if _is_duration(field) else value}")
    choices = [repr(choice).replace("'", "`") for choice in _choices(field.annotation)]
    if choices:
        words.append("one of " + ", ".join(choices))
    return f" ({', '.join(words)})" if words else ""


def _choices(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    return ()


def nested_section(model: type[BaseModel], name: str) -> type[Section] | None:
    """The section that is the value of this key, or of each item of its list; None for a plain value."""
    return next(iter(_sections_in(model.model_fields[name].annotation)), None)


def _sections_in(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, Section) and annotation is not SecretStr:
            yield annotation
        return
    for part in typing.get_args(annotation):
        yield from _sections_in(part)


def _is_list(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) is tuple


def _prose(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
