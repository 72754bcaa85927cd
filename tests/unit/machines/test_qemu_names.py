"""DNS for a guest: the names of its egress, nothing else, and no packet that breaks the keeper."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firerunner.machines.qemu.names import AAAA, NO_SUCH_NAME, A, question, response

ADDRESS = "10.0.2.100"


def query(name: str, kind: int = A, *, flags: int = 0x0100, number: int = 7, more: bytes = b"") -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return (
        struct.pack("!HHHHHH", number, flags, 1, 0, 0, 1 if more else 0)
        + labels
        + b"\0"
        + struct.pack("!HH", kind, 1)
        + more
    )


def answer(packet: bytes, code: int = 0) -> bytes | None:
    asked = question(packet)
    return None if asked is None else response(packet, asked, ADDRESS if code == 0 else None, code)


def test_a_name_has_its_address_in_any_case() -> None:
    said = answer(query("GitLab.test"))

    assert said is not None
    number, flags, questions, answers, *_ = struct.unpack_from("!HHHHHH", said)
    assert (number, flags & 0x800F, questions, answers) == (7, 0x8000, 1, 1)
    assert said.endswith(bytes([10, 0, 2, 100]))
    assert b"GitLab" in said


def test_a_name_has_no_other_records_and_an_unknown_one_does_not_exist() -> None:
    empty, unknown = answer(query("gitlab.test", AAAA)), answer(query("example.com"), NO_SUCH_NAME)

    assert empty is not None
    assert unknown is not None
    assert [struct.unpack_from("!HHHH", said)[3] for said in (empty, unknown)] == [0, 0]
    assert [said[3] & 0x0F for said in (empty, unknown)] == [0, 3]


def test_more_than_the_question_is_not_repeated() -> None:
    edns = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)

    assert answer(query("gitlab.test", more=edns)) == answer(query("gitlab.test"))


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\0" * 12,
        query("gitlab.test", flags=0x8000),
        query("gitlab.test", flags=0x2800),
        query("gitlab.test")[:-3],
        b"\0" * 10 + b"\xc0\x0c" * 20,
        query(".".join(["a" * 60] * 9)),
    ],
)
def test_what_is_no_query_gets_no_answer(packet: bytes) -> None:
    assert question(packet) is None


@given(st.binary(max_size=1300))
def test_no_packet_breaks_it(packet: bytes) -> None:
    said = answer(packet)

    assert said is None or len(said) <= len(packet) + 16
