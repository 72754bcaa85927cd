"""Reads a guest's DNS queries and writes the responses that the keeper gives itself.

The hosts file has the names of the pool's egress too; DNS is for what does not read it, such as
containers that a job starts. Source: RFC 1035, 4.1. Pure; for the keeper, so of the standard library only.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

PORT = 53
TTL_S = 60
MAX_QUERY_BYTES = 1232

A, AAAA = 1, 28
NO_ERROR, SERVER_FAILURE, NO_SUCH_NAME = 0, 2, 3

_HEADER = struct.Struct("!HHHHHH")
_QUESTION = struct.Struct("!HH")
_RESPONSE, _AUTHORITATIVE, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x0400, 0x0100, 0x0080
_OPCODE = 0x7800
_IN = 1
_MAX_LABEL, _MAX_NAME = 63, 255


class Question(NamedTuple):
    """What a query asks for."""

    name: str
    """In small letters, without a dot at the end."""
    kind: int
    """`A`, `AAAA` or another record type's number; 0 for one that is not of the internet."""
    end: int
    """Where in the query it ends."""


def question(query: bytes) -> Question | None:
    """What is asked; None for what is not a query that can be answered."""
    if not _HEADER.size < len(query) <= MAX_QUERY_BYTES:
        return None
    _, flags, questions, *_ = _HEADER.unpack_from(query)
    if flags & (_RESPONSE | _OPCODE) or questions != 1:
        return None
    found = _name(query, _HEADER.size)
    if found is None or found[1] + _QUESTION.size > len(query):
        return None
    name, at = found
    kind, kind_of_net = _QUESTION.unpack_from(query, at)
    return Question(name, kind if kind_of_net == _IN else 0, at + _QUESTION.size)


def response(query: bytes, asked: Question, address: str | None = None, code: int = NO_ERROR) -> bytes:
    """A response of ours: with an IPv4 address if that was asked for and is there, else without records."""
    records = b""
    if address is not None and asked.kind == A:
        # The name is a pointer to the question's, right behind the header.
        records = struct.pack("!HHHIH", 0xC000 | _HEADER.size, A, _IN, TTL_S, 4)
        records += bytes(int(part) for part in address.split("."))
    number, flags, *_ = _HEADER.unpack_from(query)
    said = _RESPONSE | _AUTHORITATIVE | _RECURSION_AVAILABLE | (flags & _RECURSION_DESIRED) | code
    head = _HEADER.pack(number, said, 1, 1 if records else 0, 0, 0)
    return head + query[_HEADER.size : asked.end] + records


def _name(query: bytes, at: int) -> tuple[str, int] | None:
    """The name that begins there, in small letters, and where it ends."""
    labels: list[str] = []
    while at < len(query):
        length = query[at]
        at += 1
        if length == 0:
            return ".".join(labels), at
        if length > _MAX_LABEL or at + length > min(len(query), _HEADER.size + _MAX_NAME):
            return None
        labels.append(query[at : at + length].decode("latin-1").lower())
        at += length
    return None
