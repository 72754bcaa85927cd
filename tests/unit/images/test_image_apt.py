"""The host's apt settings are taken over as far as they say how to reach Debian."""

from __future__ import annotations

from firerunner.images.apt import Source, parse_targets, transport_settings

TARGETS = """\
Debian|bookworm|bookworm|main|http://mirror.example/debian/|amd64
Debian|bookworm|bookworm|contrib|http://mirror.example/debian/|amd64
Debian|bookworm-security|bookworm-security|main|http://mirror.example/security/|amd64
Debian|bookworm|bookworm|main|http://mirror.example/debian/|i386
Docker|bookworm|bookworm|main|https://other.example/linux/debian|amd64
Debian|trixie|trixie|main|http://mirror.example/debian/|amd64
not a line of ours
"""


def test_only_the_main_component_of_the_wanted_debian_release_is_taken() -> None:
    assert parse_targets(TARGETS, "bookworm") == (
        Source("http://mirror.example/debian/", "bookworm"),
        Source("http://mirror.example/security/", "bookworm-security"),
    )


def test_a_host_without_the_release_gives_nothing() -> None:
    assert parse_targets(TARGETS, "forky") == ()


def test_updates_without_their_release_are_not_enough() -> None:
    lines = "Debian|bookworm-security|bookworm-security|main|http://mirror.example/security/|amd64"

    assert parse_targets(lines, "bookworm") == ()


def test_proxies_and_checks_are_kept_and_lists_are_not() -> None:
    dump = "\n".join(
        (
            'Acquire "";',
            'Acquire::http::Proxy "http://proxy.example:3142";',
            'Acquire::https::CAInfo "/etc/ssl/our.pem";',
            'Acquire::IndexTargets::deb::Packages "";',
            'Acquire::Languages:: "de";',
        )
    )

    assert transport_settings(dump).splitlines() == [
        'Acquire::http::Proxy "http://proxy.example:3142";',
        'Acquire::https::CAInfo "/etc/ssl/our.pem";',
    ]
