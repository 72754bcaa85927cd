"""What a host's guests reach and what they do not: `deploy/flintlock/network.sh`, in a real kernel."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import world as place
from tests.deploy.world import SERVE, World, background, world

PORTS = ("22", "53", "80", "443", "8443")


def serving(made: World, where: str, *ports: str) -> contextlib.AbstractContextManager[None]:
    return background(made.start(sys.executable, "-c", SERVE, *ports, where=where), "serving")


@contextlib.contextmanager
def up(folder: Path, **changes: str) -> Iterator[World]:
    """Everything runs; `guest1` and `guest2` have their addresses."""
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(world(folder, **changes))
        made.network("up")
        dhcp = made.start(str(place.NETWORK_SH), "dhcp", str(folder / "host.conf"))
        stack.enter_context(background(dhcp, "DHCP, IP range"))
        for where in ("outside", ""):
            stack.enter_context(serving(made, where, *PORTS))
        for name in ("guest1", "guest2"):
            made.add_guest(name)
            made.lease(name)
        yield made


def test_guests_reach_what_is_said_and_nothing_else(tmp_path: Path) -> None:
    with up(tmp_path) as made:
        assert made.reaches("guest1", place.GATE, 8443) == place.HOST
        assert made.reaches("guest2", place.GITLAB, 443) == place.HOST
        assert made.reaches("guest1", place.DNS, 53) == place.HOST
        refused = [
            (place.GATE, 443),
            (place.GITLAB, 8443),
            (place.DNS, 80),
            (place.INTERNET, 443),
            (place.PRIVATE, 443),
            (place.METADATA, 80),
            (place.HOST, 22),
            (place.BRIDGE_ADDRESS, 22),
            (place.BRIDGE_ADDRESS, 8443),
        ]
        assert {each: made.reaches("guest1", *each) for each in refused} == dict.fromkeys(refused, "")


def test_guests_do_not_reach_each_other(tmp_path: Path) -> None:
    with up(tmp_path) as made, contextlib.ExitStack() as stack:
        other = made.run("ip", "-4", "-brief", "address", "show", "dev", "eth1", where="guest2").stdout
        address = other.split()[2].partition("/")[0]
        stack.enter_context(
            background(made.start(sys.executable, "-c", SERVE, "80", where="guest2"), "serving")
        )
        assert made.reaches("guest2", address, 80) == address
        assert made.reaches("guest1", address, 80) == ""
        neighbours = made.run("ip", "neigh", "show", address, where="guest1").stdout
        assert "lladdr" not in neighbours
        assert made.reaches("guest1", place.GATE, 8443) == place.HOST


def test_nobody_opens_a_connection_to_a_guest(tmp_path: Path) -> None:
    with up(tmp_path) as made, contextlib.ExitStack() as stack:
        stack.enter_context(
            background(made.start(sys.executable, "-c", SERVE, "80", where="guest1"), "serving")
        )
        address = made.lease("guest1")
        made.run("ip", "route", "add", "10.61.0.0/16", "via", place.HOST, where="outside")
        assert made.reaches("outside", address, 80) == ""


def test_only_a_leased_address_may_speak(tmp_path: Path) -> None:
    with up(tmp_path) as made:
        made.run("ip", "addr", "flush", "dev", "eth1", where="guest1")
        made.run("ip", "addr", "add", "10.61.1.77/16", "dev", "eth1", where="guest1")
        made.run("ip", "route", "add", "default", "via", place.BRIDGE_ADDRESS, where="guest1")
        assert made.reaches("guest1", place.GATE, 8443) == ""
        assert made.lease("guest1") != "10.61.1.77"
        assert made.reaches("guest1", place.GATE, 8443) == place.HOST
        made.run("ip", "link", "set", "eth1", "address", "02:00:00:00:00:99", where="guest1")
        assert made.reaches("guest1", place.GATE, 8443) == ""


def test_the_internet_is_all_but_private_and_special_networks(tmp_path: Path) -> None:
    with up(tmp_path, EGRESS=f"internet {place.PRIVATE}/32:443") as made:
        assert made.reaches("guest1", place.INTERNET, 80) == place.HOST
        assert made.reaches("guest1", place.PRIVATE, 443) == place.HOST
        assert made.reaches("guest1", place.PRIVATE, 80) == ""
        assert made.reaches("guest1", place.METADATA, 80) == ""
        assert made.reaches("guest1", place.HOST, 22) == ""


def test_a_gate_on_the_host_itself_is_reached_and_no_other_port(tmp_path: Path) -> None:
    with up(tmp_path, EGRESS=f"{place.BRIDGE_ADDRESS}:8443 internet:443") as made:
        assert made.reaches("guest1", place.BRIDGE_ADDRESS, 8443) != ""
        assert made.reaches("guest1", place.BRIDGE_ADDRESS, 22) == ""
        assert made.reaches("guest1", place.INTERNET, 443) == place.HOST
        assert made.reaches("guest1", place.INTERNET, 80) == ""


def test_rules_made_anew_cut_no_guest_off(tmp_path: Path) -> None:
    with up(tmp_path) as made:
        made.configure({"EGRESS": f"{place.GITLAB}:443"})
        made.network("up")
        made.network("up")
        assert made.reaches("guest1", place.GITLAB, 443) == place.HOST
        assert made.reaches("guest1", place.GATE, 8443) == ""


def test_check_says_what_is_missing_and_down_leaves_nothing(tmp_path: Path) -> None:
    with up(tmp_path) as made:
        assert made.network("check").stdout == ""
        made.run("nft", "delete", "table", "bridge", "firerunner")
        broken = made.network("check", check=False)
        assert (broken.returncode, "the rules between guests are not in force" in broken.stdout) == (1, True)
        made.network("down")
        made.network("down")
        assert made.run("nft", "list", "ruleset").stdout == ""
        assert "frbr0" not in made.run("ip", "-brief", "link").stdout
        assert made.run("ls", "/run/firerunner-host").stdout == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"EGRESS": "gitlab.example.com:443"}, "Write ADDRESS:PORT"),
        ({"EGRESS": "192.0.2.1"}, "without a port"),
        ({"EGRESS": "192.0.2.1:443;reboot"}, "Write ADDRESS:PORT"),
        ({"ADDRESS": "10.61.0.1"}, "with the length of the network's prefix"),
        ({"DHCP_RANGE": "10.61.1.0-10.61.1.9"}, "first and last address"),
        ({"UPLINK": "eth7"}, "there is no device eth7"),
        ({"DNS": "dns.example.com"}, "Write IPv4 addresses"),
    ],
)
def test_what_would_make_no_network_is_named_and_nothing_is_changed(
    tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    with world(tmp_path, **changes) as made:
        refused = made.network("up", check=False)

        assert refused.returncode == 1
        assert said in refused.stderr
        assert made.run("nft", "list", "ruleset").stdout == ""
