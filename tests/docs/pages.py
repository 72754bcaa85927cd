"""Reads the pages: their blocks, how each block of commands is marked, and what stands in running text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
COMMANDS = frozenset({"bash", "console", "sh", "shell", "zsh"})
RUN = "<!-- run by a test -->"
NOT_RUN = re.compile(r'title="not run by a test: [^"]{4,}"')
_BLOCK = re.compile(
    r"(?P<before>^[^\n]*\n)?^(?P<indent> *)```(?P<kind>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
_HERE = re.compile(r"<<-?'?(\w+)'?")
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True, slots=True)
class Step:
    """One command and what the page says that it prints."""

    command: str
    output: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    page: str
    line: int
    kind: str
    info: str
    marked_run: bool
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def steps(self) -> list[Step]:
        """The commands of a block of commands, prompts taken off."""
        found: list[tuple[list[str], list[str]]] = []
        open_until: str | None = None
        for line in self.text.splitlines():
            if open_until is not None or (found and found[-1][0][-1].endswith("\\")):
                found[-1][0].append(line)
                open_until = None if line == open_until else open_until
            elif line[:2] in {"$ ", "# "}:
                found.append(([line[2:]], []))
                here = _HERE.search(line)
                open_until = here[1] if here else None
            elif self.kind != "console" and line.strip():
                found.append(([line], []))
            elif found and line.strip():
                found[-1][1].append(line)
        return [Step("\n".join(command), tuple(output)) for command, output in found]

    @property
    def is_make_alone(self) -> bool:
        """Nothing but verbs of the Makefile: they are what runs everything else."""
        return bool(self.steps) and all(step.command.startswith("make ") for step in self.steps)


def blocks(*kinds: str) -> Iterator[Block]:
    """All blocks of these kinds, page by page."""
    for page in PAGES:
        text = page.read_text()
        for found in _BLOCK.finditer(text):
            if found["kind"] not in kinds:
                continue
            cut = len(found["indent"])
            yield Block(
                page=str(page.relative_to(ROOT)),
                line=text.count("\n", 0, found.start("indent")) + 1,
                kind=found["kind"],
                info=found["info"],
                marked_run=(found["before"] or "").strip() == RUN,
                text="".join(line[cut:] for line in found["text"].splitlines(keepends=True)),
            )


def spans() -> Iterator[tuple[str, str]]:
    """All that stands `so` in running text, with its page."""
    for page in PAGES:
        text = _BLOCK.sub("", page.read_text())
        for found in _SPAN.finditer(text):
            yield str(page.relative_to(ROOT)), found[1]


def rows_of(text: str, head: str) -> Iterator[list[str]]:
    """The rows of every table whose first column is headed so."""
    inside = False
    for line in text.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[0] == head:
            inside = True
        elif inside and cells[0].strip("-: "):
            yield cells
