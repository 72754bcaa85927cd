"""The site is built without a warning, and a browser that reads it asks nobody else for anything."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "object": "data",
    "embed": "src",
    "use": "href",
}
RELATIONS = frozenset(
    {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload", "manifest"}
)
"""Of `link`: those at which a browser goes there by itself."""


class Loads(HTMLParser):
    """Collects what a page has a browser load, and the classes it uses."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        self.classes |= set(has.get("class", "").split())
        if tag in LOADED:
            self.addresses.append(has.get(LOADED[tag], ""))
        if tag == "link" and RELATIONS & set(has.get("rel", "").split()):
            self.addresses.append(has.get("href", ""))


def is_elsewhere(address: str) -> bool:
    return address.startswith(("http:", "https:", "//"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    yield folder


def read(text: str) -> Loads:
    loads = Loads()
    loads.feed(text)
    return loads


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = {page: read(page.read_text()) for page in site.rglob("*.html")}

    assert len(pages) > 50
    assert {
        (page.name, each) for page, seen in pages.items() for each in seen.addresses if is_elsewhere(each)
    } == set()
    assert all(len(seen.addresses) > 3 for seen in pages.values())
    for sheet in site.rglob("*.css"):
        assert "url(http" not in sheet.read_text(), sheet
        assert "@import" not in sheet.read_text(), sheet


def test_no_page_makes_the_theme_load_mermaid_from_elsewhere(site: Path) -> None:
    drawn = [page.name for page in site.rglob("*.html") if "mermaid" in read(page.read_text()).classes]

    assert drawn == []


def test_what_would_be_loaded_from_elsewhere_is_seen() -> None:
    bad = '<script src="https://cdn.example.com/x.js"></script><link rel="stylesheet" href="//x/y.css">'

    assert list(map(is_elsewhere, read(bad).addresses)) == [True, True]
    assert (
        read('<a href="https://example.com">out</a><link rel="canonical" href="https://x">').addresses == []
    )
