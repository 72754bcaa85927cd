"""The templates: all HTML is made here, and all that goes into it is escaped and cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from firerunner.web.dashboard import text

_KINDS = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}

STATIC: Mapping[str, tuple[bytes, str]] = {
    file.name: (file.read_bytes(), _KINDS[file.name.rpartition(".")[2]])
    for file in files("firerunner.web.dashboard").joinpath("static").iterdir()
}
"""Content and type by name."""


def _shown(value: Any) -> Any:
    """Strings that are no HTML of ours are cleaned before they are escaped."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return text.plain(value)


def _console(raw: bytes) -> Markup:
    return Markup.escape(text.console(raw))


_environment = Environment(
    loader=PackageLoader("firerunner.web.dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=_shown,
    auto_reload=False,
)
_environment.filters |= {
    "moment": text.moment,
    "day_and_time": text.day_and_time,
    "digest": text.digest,
    "lasting": text.lasting,
    "mebibytes": text.mebibytes,
    "console": _console,
}


def page(template: str, **facts: Any) -> str:
    """A whole page."""
    return _environment.get_template(f"{template}.html").render(facts)


def piece(name: str) -> Callable[..., str]:
    """A macro of `pieces.html`."""
    macro: Callable[..., str] = getattr(_environment.get_template("pieces.html").module, name)
    return macro
