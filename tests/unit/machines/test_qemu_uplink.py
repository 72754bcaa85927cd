"""An uplink's rules, and whom the keeper connects to by them."""

from __future__ import annotations

import asyncio
import ipaddress
import multiprocessing
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firerunner.errors import HostUnusable, MachineError
from firerunner.machines.qemu import confine, egress, namespace, order, outward
from firerunner.machines.qemu.checks import find_program
from firerunner.machines.qemu.outward import Outward
from firerunner.machines.qemu.uplink import NOT_PUBLIC, uplink_of
from firerunner.machines.spec import Destination, Domain, Egress, Internet, Network

EVERYTHING: tuple[Egress, ...] = (
    Destination("git.example.com", 443),
    Destination("203.0.113.7", 22),
    Network("10.20.0.0/16"),
    Network("10.30.0.0/16", 5432),
    Network("0.0.0.0/0"),
    Domain("example.com"),
    Domain("example.org", 443),
    Internet(),
    Internet(443),
)
NOBODY = 65534


def test_single_destinations_need_no_uplink() -> None:
    assert uplink_of((Destination("git.example.com", 443),), (), None) is None


def test_without_nft_the_remedy_is_said() -> None:
    with pytest.raises(HostUnusable, match="nft is not installed") as caught:
        uplink_of((Internet(),), (), None)

    assert "apt-get install nftables" in str(caught.value.remedy)


def test_only_the_internet_has_all_names() -> None:
    domain, internet = (uplink_of((each,), (), "nft") for each in (Domain("example.com", 443), Internet()))

    assert domain is not None
    assert internet is not None
    assert (domain.domains, domain.resolves) == ([("example.com", 443)], False)
    assert (internet.domains, internet.resolves) == ([], True)


def test_public_is_what_the_registry_of_special_addresses_leaves() -> None:
    special = [ipaddress.ip_network(each) for each in NOT_PUBLIC]

    @given(st.ip_addresses(v=4))
    def agrees(address: ipaddress.IPv4Address) -> None:
        public = not any(address in network for network in special)
        assert public <= (address.is_global and not address.is_multicast)

    agrees()


def test_more_destinations_than_sockets_are_refused() -> None:
    many = tuple(Destination("git.example.com", port) for port in range(1, 300))
    with pytest.raises(MachineError, match="more than 239 destinations"):
        egress.listeners("127.0.0.1:80", many)


def test_the_kernel_takes_the_rules_from_an_ordinary_user() -> None:
    """In a process of its own, which takes its network along."""
    nft = find_program("nft")
    rules = uplink_of(EVERYTHING, egress.listeners("127.0.0.1:80", EVERYTHING), nft)
    assert rules is not None
    process = multiprocessing.get_context("fork").Process(target=_load, args=(rules,))
    process.start()
    process.join()

    assert process.exitcode == 0


def _load(rules: order.Uplink) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        confine.prctl(4, 1)  # PR_SET_DUMPABLE, which the change of user has taken: /proc/self stays ours
    confine.forbid_new_privileges()
    namespace.enter()
    sock = namespace.open_uplink(rules.nft, rules.ruleset)
    assert sock.getsockname() == (namespace.UPLINK_ADDRESS, namespace.UPLINK_PORT)


@pytest.mark.parametrize(
    ("name", "port", "covered"),
    [
        ("a.example.com", None, True),
        ("b.a.example.com", 80, True),
        ("example.com", None, False),
        ("aexample.com", None, False),
        ("a.example.com.evil.test", None, False),
        ("a.example.org", None, True),
        ("a.example.org", 443, True),
        ("a.example.org", 80, False),
    ],
)
def test_a_domain_covers_what_is_below_it(name: str, port: int | None, covered: bool) -> None:
    assert (
        Outward([("example.com", None), ("example.org", 443)], resolves=False).covers(name, port) is covered
    )


class Guest:
    """A socket as far as an uplink looks at it."""

    def __init__(self, address: str, port: int) -> None:
        self.getsockname = lambda: (address, port)


@pytest.mark.anyio
async def test_this_computer_is_never_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """By address, and by a name below an allowed domain that leads to it."""
    found: list[str] = []

    async def look_up(_name: str) -> list[str]:
        return found

    monkeypatch.setattr(outward, "_addresses_of", look_up)
    way = Outward([("example.com", None)], resolves=False)
    visits = 0

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1
        writer.close()

    server = await asyncio.start_server(serve, "", 0)
    port = server.sockets[0].getsockname()[1]
    ours = {*outward.METADATA, "127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", *_own_addresses()}
    async with server:
        for address in ours:
            found[:] = [address]
            stand_in = await way.stand_in("a.example.com")
            assert stand_in is not None
            for guest in (Guest(stand_in, port), Guest(address, port)):
                assert await way.connect(guest) is None  # type: ignore[arg-type]
    assert visits == 0


def _own_addresses() -> set[str]:
    return {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(socket.gethostname(), None)}


@pytest.mark.anyio
async def test_a_guest_cannot_make_its_keeper_remember_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(_name: str) -> list[str]:
        return ["192.0.2.1"]

    monkeypatch.setattr(outward, "_addresses_of", look_up)
    monkeypatch.setattr(outward, "MAX_NAMES", 3)
    way = Outward([("example.com", None)], resolves=False)
    given = [await way.stand_in(f"{number}.example.com") for number in range(5)]

    assert len({each for each in given if each is not None}) == 3
    assert given[3:] == [None, None]
    assert await way.stand_in("0.example.com") == given[0]
