"""Reads the configuration file and turns every mistake in it into a sentence with a remedy."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from firerunner.errors import SettingsError
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
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"cannot read the configuration {path}: {error}", remedy="Name another file with --config"
        ) from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(
            f"{path} is not YAML: {_fault(error)}", remedy="Mend the line named above"
        ) from None
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise SettingsError(
            f"{path} does not hold a mapping at its top level", remedy="Begin with `gitlab:` and `pools:`"
        )
    return _settings(path, data, lenient=missing_secrets == "placeholder")


def _fault(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the line itself and without words of it: it may hold a secret."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return f"it cannot be read ({type(error).__name__})"
    what = _QUOTED.sub("…", error.problem or "it cannot be read")
    return f"{what}, in line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"


def _settings(path: Path, data: Mapping[str, Any], *, lenient: bool = False) -> Settings:
    _refuse_unknown_variables()
    try:
        with reading_beside(path, lenient=lenient) as secret_files:
            settings = Settings(**data)
        return settings.read_from(frozenset(secret_files), lambda: _settings(path, data, lenient=lenient))
    except ValidationError as error:
        remedy = "Check again with `firerunner config check`"
        if OF_THE_PREDECESSOR & set(data):
            remedy = "This looks like a configuration of the Go FireRunner: see docs/migration.md"
        lines = "\n".join(f"  {line}" for line in _sentences(error.errors(), data))
        raise SettingsError(f"{path} is wrong:\n{lines}", remedy=remedy) from error


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


def _sentences(errors: Iterable[ErrorDetails], data: Mapping[str, Any]) -> list[str]:
    """One line for each mistake; a list that is empty only because its items are wrong gets none."""
    errors = list(errors)
    wrong_inside = {error["loc"][0] for error in errors if len(error["loc"]) > 1}
    if not isinstance(data.get("gitlab"), list):  # one GitLab needs no list in the file
        for error in errors:
            error["loc"] = tuple(
                part for i, part in enumerate(error["loc"]) if not (i == 1 and error["loc"][0] == "gitlab")
            )
    return [
        _sentence(error)
        for error in errors
        if not (error["type"] == "too_short" and error["loc"][0] in wrong_inside)
    ]


def _sentence(error: ErrorDetails) -> str:
    where = _where(error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key{_nearest(error['loc'])}"
    if error["type"] == "missing":
        return f"{where}: missing"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


def _where(loc: Sequence[int | str]) -> str:
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif "function-" not in part and part not in {"Destination", "str"}:
            text += f".{part}" if text else part
    return text or "top level"


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
