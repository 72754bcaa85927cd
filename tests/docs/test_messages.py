"""What a page says that FireRunner says, FireRunner says: each quoted message is in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.pages import PAGES, ROOT, rows_of

HEAD = "it says"
SHORTEST = 6
"""Of the longest piece between two `…`: shorter ones prove nothing."""
ANYTHING = "\N{HORIZONTAL ELLIPSIS}"


def messages() -> Iterator[str]:
    """Every text in the code, with `…` for what is put in, and every script that runs in guests."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(
                    part.value if isinstance(part, ast.Constant) else ANYTHING for part in node.values
                )
    for path in (ROOT / "src" / "firerunner" / "guest" / "files").iterdir():
        yield path.read_text()


SAID = list(messages())


def quoted() -> Iterator[tuple[str, str]]:
    """Code in the first column of tables that are headed so."""
    for page in PAGES:
        for row in rows_of(page.read_text(), HEAD):
            for span in re.findall(r"`([^`]+)`", row[0]):
                yield page.name, span


@pytest.mark.parametrize(("page", "message"), sorted(set(quoted())), ids=lambda value: value[:40])
def test_a_quoted_message_is_in_the_code(page: str, message: str) -> None:
    pieces = [piece.strip() for piece in message.split(ANYTHING)]
    in_this_order = re.compile(".*".join(map(re.escape, pieces)), re.DOTALL)

    assert max(map(len, pieces)) >= SHORTEST, "too short to be told from others"
    assert any(in_this_order.search(said) for said in SAID)


def test_there_is_something_to_look_for() -> None:
    assert len(set(quoted())) > 80
    assert not any("the moon is not usable" in said for said in SAID)
