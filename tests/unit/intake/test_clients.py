"""The client's address: believed as far as declared proxies have written it, and no further."""

from __future__ import annotations

import ipaddress

import pytest
from door_given import JOB_HOOK, SECRET, Given, gitlab
from hypothesis import given as every
from hypothesis import strategies as st
from structlog.testing import capture_logs

from firerunner.intake.clients import Address, client_address, parsed, site, within

V4_PROXIES = ipaddress.ip_network("10.0.0.0/8")
V6_PROXIES = ipaddress.ip_network("fd00::/8")
PROXIES = (V4_PROXIES, V6_PROXIES)
proxies = st.ip_addresses(network=V4_PROXIES) | st.ip_addresses(network=V6_PROXIES)
outsiders = st.ip_addresses().map(str).map(parsed).filter(lambda each: each and not within(each, PROXIES))
lies = st.text(st.characters(exclude_characters="\r\n", max_codepoint=255), max_size=60)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.5, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.5", "198.51.100.7, 10.1.1.1"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7,10.2.2.2 ,\t10.3.3.3"], "198.51.100.7"),
        ("10.0.0.1", ["10.9.9.9, 10.8.8.8"], "10.9.9.9"),
        ("10.0.0.1", ["198.51.100.7:51234"], "198.51.100.7"),
        ("10.0.0.1", ["[2001:db8::7]:443"], "2001:db8::7"),
        ("10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
        ("fd00::1%eth0", ["2001:db8::7"], "2001:db8::7"),
        (None, ["198.51.100.7"], "198.51.100.7"),
        (None, [], None),
        ("10.0.0.1", ["198.51.100.7, unknown"], None),
        ("10.0.0.1", ["198.51.100.7, 999.1.1.1"], None),
        ("10.0.0.1", ["198.51.100.7, , "], "198.51.100.7"),
        ("10.0.0.1", [", ".join(["10.0.0.2"] * 100)], None),
        ("not an address", ["198.51.100.7"], None),
    ],
)
def test_the_list_is_walked_from_the_right(
    peer: str | None, forwarded: list[str], client: str | None
) -> None:
    found = client_address(peer, forwarded, PROXIES)

    assert found == (None if client is None else ipaddress.ip_address(client))


@every(peer=outsiders, header=st.lists(lies, max_size=3))
def test_a_peer_that_is_no_proxy_is_the_client_whatever_it_sends(peer: Address, header: list[str]) -> None:
    assert client_address(str(peer), header, PROXIES) == peer


@every(client=outsiders, through=st.lists(proxies, min_size=1, max_size=5), lie=lies, cut=st.integers(0, 5))
def test_behind_proxies_the_client_is_whom_the_first_of_them_saw(
    client: Address, through: list[Address], lie: str, cut: int
) -> None:
    """Each proxy adds the one before it; the client may have sent any header of its own."""
    *seen, peer = [str(client), *map(str, through)]
    written = [lie, *seen]
    header = [part for part in (", ".join(written[:cut]), ", ".join(written[cut:])) if part]

    assert client_address(str(peer), header, PROXIES) == client


@every(peer=st.none() | st.text(max_size=50), header=st.lists(st.text(max_size=80), max_size=4))
def test_nothing_that_is_sent_is_an_error(peer: str | None, header: list[str]) -> None:
    client_address(peer, header, PROXIES)


@every(address=st.ip_addresses(v=4), port=st.integers(0, 65535))
def test_an_ipv4_address_is_the_same_in_every_spelling(address: ipaddress.IPv4Address, port: int) -> None:
    spellings = [
        str(address),
        f"{address}:{port}",
        f"::ffff:{address}",
        f" {address} ",
        f"[::ffff:{address}]:{port}",
    ]

    assert {parsed(spelling) for spelling in spellings} == {address}


@every(address=st.ip_addresses(v=6))
def test_one_ipv6_site_is_one_client_in_limits(address: ipaddress.IPv6Address) -> None:
    first = ipaddress.IPv6Address(int(address) >> 64 << 64)

    assert site(address) == site(first) == f"{first}/64"


def test_a_network_of_mapped_addresses_is_the_ipv4_network() -> None:
    networks = (ipaddress.ip_network("::ffff:198.51.100.0/120"),)

    assert within(ipaddress.ip_address("198.51.100.7"), networks)
    assert not within(ipaddress.ip_address("198.51.101.7"), networks)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("peer", "forwarded", "status"),
    [
        ("198.51.100.7", None, 200),
        ("::ffff:198.51.100.7", None, 200),
        ("2001:db8::9", None, 200),
        ("203.0.113.5", None, 403),
        ("203.0.113.5", "198.51.100.7", 403),
        ("10.0.0.1", "198.51.100.7", 200),
        ("10.0.0.1", "198.51.100.7, 203.0.113.5", 403),
        ("10.0.0.1", "unknown", 403),
        ("10.0.0.1", None, 403),
    ],
)
async def test_only_allowed_networks_get_in(peer: str, forwarded: str | None, status: int) -> None:
    door = Given()
    door.configure(
        gitlab(secret="s3cret"),
        allow="198.51.100.0/24,2001:db8::/32",
        trusted_proxies="10.0.0.0/8",
    )
    headers = SECRET | ({} if forwarded is None else {"X-Forwarded-For": forwarded})

    answer = await door.post(JOB_HOOK, headers, peer=peer)

    assert answer.status_code == status
    assert len(door.woken) == (status == 200)


@pytest.mark.anyio
async def test_other_headers_about_the_client_are_not_believed() -> None:
    door = Given()
    door.configure(gitlab(secret="s3cret"), allow="198.51.100.0/24", trusted_proxies="10.0.0.0/8")
    lies = {"Forwarded": "for=198.51.100.7", "X-Real-IP": "198.51.100.7", "CF-Connecting-IP": "198.51.100.7"}

    assert (await door.post(JOB_HOOK, SECRET | lies, peer="10.0.0.1")).status_code == 403


@pytest.mark.anyio
async def test_the_log_names_the_real_client() -> None:
    door = Given()
    door.configure(gitlab(secret="s3cret"), trusted_proxies="10.0.0.0/8")

    with capture_logs() as lines:
        await door.post(JOB_HOOK, {"X-Forwarded-For": "203.0.113.99, 198.51.100.7"}, peer="10.0.0.1")

    assert [line["client"] for line in lines] == ["198.51.100.7"]
