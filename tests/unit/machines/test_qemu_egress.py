"""Addresses in a machine's network."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firerunner.errors import MachineError
from firerunner.machines.qemu.egress import (
    egress_addresses,
    guest_gate_url,
    hosts_entries,
    listeners,
    split_host_port,
)
from firerunner.machines.spec import Destination

names = st.from_regex(r"[a-z]{1,8}\.example", fullmatch=True)
literals = st.ip_addresses(network="198.51.100.0/24").map(str)
destinations = st.lists(
    st.builds(Destination, host=names | literals, port=st.integers(1, 65535)), max_size=40
).map(tuple)


@given(destinations)
def test_each_host_has_one_address_and_each_address_one_host(egress: tuple[Destination, ...]) -> None:
    addresses = dict(egress_addresses(egress))

    assert addresses.keys() == {each.host for each in egress}
    assert len(set(addresses.values())) == len(addresses)


@given(destinations)
def test_there_is_a_listener_for_the_gate_and_for_each_destination_and_no_other(
    egress: tuple[Destination, ...],
) -> None:
    table = listeners("127.0.0.1:8080", egress)

    addresses = dict(egress_addresses(egress))
    wanted = {("10.0.2.2", 80), *((addresses[each.host], each.port) for each in egress)}
    assert {(each.address, each.port) for each in table} == wanted
    assert len(table) == len(wanted)
    assert table[0][2:] == ("127.0.0.1", 8080)
    assert {(each.to_host, each.to_port) for each in table[1:]} == {(each.host, each.port) for each in egress}


@given(destinations)
def test_hosts_entries_name_addresses_of_the_link(egress: tuple[Destination, ...]) -> None:
    entries = hosts_entries(egress)

    assert all(
        ipaddress.ip_address(address) in ipaddress.ip_network("10.0.2.96/27")
        or int(address.rpartition(".")[2]) >= 100
        for _, address in entries
    )
    assert not {host for host, _ in entries} & {each.host for each in egress if each.host[0].isdigit()}


def test_hosts_are_numbered_in_the_order_of_their_declaration() -> None:
    egress = (
        Destination("GitLab.example.com", 443),
        Destination("proxy.example.com", 3128),
        Destination("gitlab.example.com", 22),
    )

    assert hosts_entries(egress) == [
        ("gitlab.example.com", "10.0.2.100"),
        ("proxy.example.com", "10.0.2.101"),
    ]


def test_connect_to_leads_elsewhere_and_may_leave_the_port_as_it_is() -> None:
    egress = (
        Destination("a.example", 443, "127.0.0.1:8443"),
        Destination("b.example", 443, "10.1.1.1"),
        Destination("c.example", 443, "[::1]:9"),
    )

    outside = [(each.to_host, each.to_port) for each in listeners("localhost:1", egress)[1:]]

    assert outside == [("127.0.0.1", 8443), ("10.1.1.1", 443), ("::1", 9)]


def test_the_same_destination_twice_is_one_listener() -> None:
    egress = (Destination("a.example", 443), Destination("a.example", 443))

    assert len(listeners("localhost:1", egress)) == 2


@pytest.mark.parametrize(
    ("egress", "words"),
    [
        ((Destination("a.example", 443), Destination("a.example", 443, "b:1")), "two different connect_to"),
        ((Destination("127.0.0.1", 80),), "means something else"),
        ((Destination("10.0.2.2", 22),), "means something else"),
        ((Destination("0.0.0.0", 22),), "means something else"),
        ((Destination("::1", 22),), "IPv4 only"),
        ((Destination("a.example", 0),), "no usable port"),
        ((Destination("a.example", 443, "b:notaport"),), "as host:port"),
        (tuple(Destination(f"h{number}.example", 1) for number in range(156)), "more than 155 hosts"),
    ],
)
def test_what_cannot_be_listened_on_is_refused_with_a_remedy(
    egress: tuple[Destination, ...], words: str
) -> None:
    with pytest.raises(MachineError, match=words) as caught:
        listeners("localhost:1", egress)

    assert caught.value.remedy


@pytest.mark.parametrize("text", ["", "host", ":80", "host:", "host:0", "host:65536", "host:٣", "host:-1"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(MachineError, match="as host:port"):
        split_host_port(text)


def test_the_gate_is_found_by_the_machine_id() -> None:
    assert guest_gate_url("fr-0123456789ab") == "http://10.0.2.2/m/fr-0123456789ab"
