"""Writes the reference of every command out of the code: `python -m firerunner.cli.reference`."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import typer.main

from firerunner.cli.exits import MEANING
from firerunner.cli.main import app

_HEAD = """# Commands

Every command, generated from the code (`make reference`); `firerunner COMMAND --help` says the same.

Commands work on the computer of a controller, as the user of the service: they read the configuration and,
with the key file beside it, the ledger itself, so they also work while the service does not. Programs
elsewhere use the [API](api.md), which tells the same. Wishes such as `drain` are written into the ledger,
where the service finds them within a second.

`--json` prints one JSON document on standard output, or one object in each line where the command goes on or
may be long; progress and errors go to standard error, so a pipe gets the answer only. All times in JSON are
Unix seconds. Keys may be added in later versions, and are not taken away or changed in meaning before 1.0
without a line in the changelog. Ctrl-C ends every command without a word.

| exit status | means |
|---|---|
"""

_SHELLS = """
## Completion in the shell

```console title="not run by a test: it changes your shell's start files"
$ firerunner --install-completion
```

It is for the shell that runs it: bash, zsh, fish or PowerShell. `firerunner --show-completion` prints the
script instead, for `/etc/bash_completion.d`, say.
"""

_GOES_ON = "it goes on until it is stopped"
_REGISTRY = "it needs a registry"
_HELD = "it needs a held machine"
_NOT_RUN: Mapping[str, str] = {
    "firerunner demo": "it takes minutes",
    "firerunner events --follow": _GOES_ON,
    "firerunner hold release": _HELD,
    "firerunner image build": "it takes minutes",
    "firerunner image pull": _REGISTRY,
    "firerunner image push": _REGISTRY,
    "firerunner ledger rollback": "it needs a service that is stopped",
    "firerunner serve": _GOES_ON,
    "firerunner shell": _HELD,
    "firerunner top": _GOES_ON,
}
"""Why an example that begins like this is not run by the test of the pages; `top --once` is."""

_BUILT_IN = frozenset({"--help", "--install-completion", "--show-completion"})


def reference() -> str:
    """The page, as Markdown."""
    statuses = "".join(f"| {status:d} | {meaning} |\n" for status, meaning in MEANING.items())
    return _HEAD + statuses + _SHELLS + "".join(_commands("firerunner", typer.main.get_command(app)))


def _commands(path: str, command: Any) -> Iterator[str]:
    below = getattr(command, "commands", None)
    if below is None:
        yield _one(path, command)
        return
    for name, each in below.items():
        yield from _commands(f"{path} {name}", each)


def _one(path: str, command: Any) -> str:
    about, examples = _texts(inspect.cleandoc(command.help or ""))
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if not _BUILT_IN & set(each.opts) and each not in arguments]
    words = [path, *(_argument(each) for each in arguments), *(["[OPTIONS]"] if options else [])]
    parts = [f"\n## {path}\n", f"`{' '.join(words)}`\n", f"{about}\n"]
    if arguments or options:
        rows = [
            *((_argument(each), each) for each in arguments),
            *((_option(each), each) for each in options),
        ]
        cells = [(f"`{words}`", _meaning(each)) for words, each in rows]
        lines = ["| " + " | ".join(each.replace("|", "\\|") for each in row) + " |" for row in cells]
        parts.append("| | meaning |\n|---|---|\n" + "\n".join(lines) + "\n")
    groups = itertools.groupby(examples, _why_not_run)
    parts += [_block(why, list(together)) for why, together in groups]
    return "\n".join(parts)


def _why_not_run(example: str) -> str | None:
    if "--once" in example.split():
        return None
    return next((why for words, why in _NOT_RUN.items() if example.startswith(words)), None)


def _block(why: str | None, examples: list[str]) -> str:
    """The examples, marked as `tests/docs` wants it."""
    head = f'```console title="not run by a test: {why}"' if why else "<!-- run by a test -->\n```console"
    return "\n".join([head, *(f"$ {example}" for example in examples), "```\n"])


def _texts(said: str) -> tuple[str, list[str]]:
    """What the command's help says, and its examples."""
    paragraphs = [" ".join(each.split()) for each in said.split("\n\n")]
    marked = [each for each in paragraphs if each.startswith("Example: ")]
    return (
        "\n\n".join(each for each in paragraphs if each not in marked),
        [each.removeprefix("Example: ") for each in marked],
    )


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    name = name if parameter.nargs == 1 else f"{name}..."
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {_kind(parameter.type_descriptor.annotation)}"


def _kind(annotation: Any) -> str:
    """What stands for the value: its choices, or the kind of thing that it is."""
    of = next((each for each in get_args(annotation) if each is not type(None)), annotation)
    if isinstance(of, type) and issubclass(of, Enum):
        return "|".join(str(each.value) for each in of)
    return {int: "NUMBER", float: "NUMBER", Path: "FILE"}.get(of, "TEXT")


def _meaning(parameter: Any) -> str:
    told = [re.sub(r"\s+", " ", parameter.help or "").strip()]
    default = parameter.default
    if parameter.secondary_opts:
        told.append(f"Default: `{(parameter.opts if default else parameter.secondary_opts)[0]}`.")
    elif isinstance(default, str | int | float | Path) and not isinstance(default, bool) and default != "":
        told.append(f"Default: `{default}`.")
    if parameter.envvar:
        told.append(f"Environment: `{parameter.envvar}`.")
    return " ".join(each for each in told if each)


if __name__ == "__main__":
    print(reference(), end="")
