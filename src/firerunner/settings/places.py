"""Where in a YAML file something stands, by its path of keys and indices."""

from __future__ import annotations

from collections.abc import Sequence

import yaml


def line_of(root: yaml.Node, path: Sequence[int | str]) -> int | None:
    """The line, from 1, of the last part of `path` that the file has; None if it has not even the first."""
    found, node = None, root
    for part in path:
        inner = _inner(node, part)
        if inner is None:
            break
        mark, node = inner
        found = mark.line + 1
    return found


def _inner(node: yaml.Node, part: int | str) -> tuple[yaml.Mark, yaml.Node] | None:
    """Where this key or item begins, and what it holds."""
    if isinstance(node, yaml.MappingNode):
        return next(((key.start_mark, value) for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark, node.value[part]
    return None
