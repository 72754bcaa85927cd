"""Answers a guest's DNS queries for the names of its pool's egress; all others do not exist.

The hosts file has the same names; DNS is for what does not read it, such as containers that a job starts.
Source: RFC 1035, 4.1. Pure; for the keeper, so of the standard library only.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

PORT = 53
TTL_S = 60
MAX_QUERY_BYTES = 512

_HEADER = struct.Struct("!HHHHHH")
_QUESTION = struct.Struct("!HH")
_RESPONSE, _AUTHORITATIVE, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x0400, 0x0100, 0x0080
_OPCODE = 0x7800
_NO_SUCH_NAME = 3
_A, _IN = 1, 1
_MAX_LABEL = 63


def answer(query: bytes, names: Mapping[str, str]) -> bytes | None:
    """The response to one query; None for what is not a query that can be answered.

    `names`: IPv4 address by name, in small letters.
    """
    if not _HEADER.size < len(query) <= MAX_QUERY_BYTES:
        return None
    number, flags, questions, *_ = _HEADER.unpack_from(query)
    if flags & (_RESPONSE | _OPCODE) or questions != 1:
        return None
    found = _name(query, _HEADER.size)
    if found is None or found[1] + _QUESTION.size > len(query):
        return None
    name, at = found
    kind, kind_of_net = _QUESTION.unpack_from(query, at)
    address = names.get(name)
    records = b""
    if address is not None and kind == _A and kind_of_net == _IN:
        # The name is a pointer to the question's, right behind the header.
        records = struct.pack("!HHHIH", 0xC000 | _HEADER.size, _A, _IN, TTL_S, 4)
        records += bytes(int(part) for part in address.split("."))
    said = _RESPONSE | _AUTHORITATIVE | _RECURSION_AVAILABLE | (flags & _RECURSION_DESIRED)
    said |= _NO_SUCH_NAME if address is None else 0
    head = _HEADER.pack(number, said, 1, 1 if records else 0, 0, 0)
    return head + query[_HEADER.size : at + _QUESTION.size] + records


def _name(query: bytes, at: int) -> tuple[str, int] | None:
    """The name that begins there, in small letters, and where it ends."""
    labels: list[str] = []
    while at < len(query):
        length = query[at]
        at += 1
        if length == 0:
            return ".".join(labels), at
        if length > _MAX_LABEL or at + length > len(query):
            return None
        labels.append(query[at : at + length].decode("latin-1").lower())
        at += length
    return None
