"""Reads the configuration file and turns every mistake in it into a sentence with a remedy."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from firerunner.errors import SettingsError
from firerunner.settings.places import line_of
from firerunner.settings.root import ENV_DELIMITER, ENV_PREFIX, Settings
from firerunner.settings.secrets import WithSecrets, reading_beside, secret_fields

NOT_SETTINGS = frozenset({"FIRERUNNER_CONFIG", "FIRERUNNER_GITLAB_RUNNER", "FIRERUNNER_GITLAB_RUNNER_HELPER"})
"""Environment variables of ours that do not override the file."""

_QUOTED = re.compile(r"'(?!<[a-z ]+>').{2,}'")
"""What YAML's messages quote from the text; not the names of its own parts, such as '<block end>'."""

OF_THE_PREDECESSOR = frozenset({"server", "scheduler", "flintlock", "vm", "metrics", "logging"})
"""Sections that only the Go program of the same name had."""


def load_settings(path: Path, *, missing_secrets: Literal["refuse", "placeholder"] = "refuse") -> Settings:
    """The settings in `path`, overridden by the environment.

    `missing_secrets`: with `placeholder`, files of secrets that `gitlab setup` will write may be missing.
    Raises SettingsError that names the file, each wrong key and what is expected of it.
    """
    text = _text(path)
    try:
        loader = _OnceEach(text)
        root = loader.get_single_node()
        data = None if root is None else loader.construct_document(root)
    except yaml.YAMLError as error:
        raise SettingsError(
            f"{path} is not YAML: {_fault(error, text)}", remedy="Mend that line, and check again"
        ) from None
    if root is None or not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise SettingsError(
            f"{path} does not hold a mapping at its top level", remedy="Begin with `gitlab:` and `pools:`"
        )
    return _settings(File(path, data, root), lenient=missing_secrets == "placeholder")


@dataclass(frozen=True, slots=True)
class File:
    """What stands in a file, and where."""

    path: Path
    data: Mapping[str, Any]
    root: yaml.Node


class _OnceEach(yaml.SafeLoader):
    """Refuses a key that stands twice in one section: YAML would forget the first one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem="a key stands here for the second time in its section",
                    problem_mark=key.start_mark,
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _text(path: Path) -> str:
    what = f"cannot read the configuration {path}"
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        remedy = "Write it (docs/first-job.md begins one), or name another file with --config"
        raise SettingsError(f"{what}: there is no such file", remedy=remedy) from error
    except PermissionError as error:
        remedy = "Run as root or as the service's user, or name another file with --config"
        raise SettingsError(f"{what}: not for this user", remedy=remedy) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SettingsError(
            f"{what}: line {line} is not text in UTF-8", remedy="Save it as UTF-8, and check again"
        ) from error
    except OSError as error:
        raise SettingsError(f"{what}: {error.strerror}", remedy="Name another file with --config") from error


def _fault(error: yaml.YAMLError, text: str) -> str:
    """What is wrong and where, without the line itself and without words of it: it may hold a secret."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return f"it cannot be read ({type(error).__name__})"
    line, column = error.problem_mark.line, error.problem_mark.column
    what = _QUOTED.sub("…", error.problem or "it cannot be read")
    if [*text.splitlines(), ""][line][column : column + 1] == "\t":
        what = "there is a tab, where YAML takes spaces only"
    return f"{what}, in line {line + 1}, column {column + 1}"


def _settings(file: File, *, lenient: bool = False) -> Settings:
    _refuse_unknown_variables()
    try:
        with reading_beside(file.path, lenient=lenient) as secret_files:
            settings = Settings(**file.data)
        return settings.read_from(frozenset(secret_files), lambda: _settings(file, lenient=lenient))
    except ValidationError as error:
        remedy = "Mend it, and check again with `firerunner config check`"
        if OF_THE_PREDECESSOR & set(file.data):
            remedy = "This looks like a configuration of the Go FireRunner: see docs/migration.md"
        lines = "\n".join(f"  {line}" for line in _sentences(error.errors(), file))
        raise SettingsError(f"{file.path} is wrong:\n{lines}", remedy=remedy) from error


def _refuse_unknown_variables() -> None:
    """An override with a typing error in its name would be lost without a word."""
    known = [f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields]
    for variable in sorted(os.environ):
        subject = variable.upper().partition(ENV_DELIMITER)[0]
        if not variable.upper().startswith(ENV_PREFIX) or subject in known or variable in NOT_SETTINGS:
            continue
        near = difflib.get_close_matches(subject, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise SettingsError(
            f"the environment variable {variable} is unknown; {hint}", remedy="Unset or mend it"
        )


def _sentences(errors: Iterable[ErrorDetails], file: File) -> list[str]:
    """One line for each mistake; a list that is empty only because its items are wrong gets none."""
    errors = list(errors)
    wrong_inside = {error["loc"][0] for error in errors if len(error["loc"]) > 1}
    if not isinstance(file.data.get("gitlab"), list):  # one GitLab needs no list in the file
        for error in errors:
            error["loc"] = tuple(
                part for i, part in enumerate(error["loc"]) if not (i == 1 and error["loc"][0] == "gitlab")
            )
    return [
        f"{_line(error['loc'], file)}{_sentence(error, file.data)}"
        for error in errors
        if not (error["type"] == "too_short" and error["loc"][0] in wrong_inside)
    ]


def _line(loc: Sequence[int | str], file: File) -> str:
    """For a key that the file has; not if the environment overrides what it belongs to."""
    line = line_of(file.root, _as_given(loc, file.data))
    subject = f"{ENV_PREFIX}{loc[0]}".upper() if loc else None
    overridden = any(variable.upper().partition(ENV_DELIMITER)[0] == subject for variable in os.environ)
    return "" if line is None or overridden else f"line {line}: "


_EXPECTED: Mapping[str, str] = {
    "tuple_type": "a list: each item begins with `- `",
    "model_type": "a section of keys",
    "model_attributes_type": "a section of keys",
    "int_parsing": "a whole number, without a unit",
    "int_from_float": "a whole number, without a unit",
    "string_type": "text; put it in quotes",
    "bool_parsing": "true or false",
}
"""What pydantic's words for a mistake mean in YAML."""


def _sentence(error: ErrorDetails, data: Mapping[str, Any]) -> str:
    where = _where(_as_given(error["loc"], data))
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key{_nearest(error['loc'])}"
    if error["type"] == "missing":
        return f"{where}: missing"
    if error["type"] in _EXPECTED:
        return f"{where}: expected {_EXPECTED[error['type']]}"
    said = error["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


def _as_given(loc: Sequence[int | str], data: Any) -> Sequence[int | str]:
    """The key that the file has: a secret's mistake may be one of `x_file`."""
    for part in loc[:-1]:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return loc
    if loc and isinstance(data, Mapping) and loc[-1] not in data and f"{loc[-1]}_file" in data:
        return (*loc[:-1], f"{loc[-1]}_file")
    return loc


def _where(loc: Sequence[int | str]) -> str:
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif "function-" not in part and part not in {"Destination", "str"}:
            text += f".{part}" if text else part
    return text


def _nearest(loc: Sequence[int | str]) -> str:
    known = _keys_at(Settings, loc[:-1])
    near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
    return f"; did you mean `{near[0]}`?" if near else f"; known here: {', '.join(sorted(known))}"


def _keys_at(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            inner = _model_in(model.model_fields[part].annotation)
            if inner is not None:
                model = inner
    files = [f"{name}_file" for name in secret_fields(model)] if issubclass(model, WithSecrets) else []
    return [*model.model_fields, *files]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)
