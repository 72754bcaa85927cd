"""What the generators make: one hostile request, and what the sender knows of the world it is sent into."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

WEBHOOK, API, GATE = "webhook", "api", "gate"
DOORS = (WEBHOOK, API, GATE)
WRONG = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine with its job, and the secrets of both."""

    machine_id: str
    credential: str
    job_id: int
    job_token: str


@dataclass(frozen=True, slots=True)
class Facts:
    """The world. The secrets are here so that they can be spoilt."""

    web: int
    gate: int
    secret: str
    signing: str
    read_token: str
    operate_token: str
    honest: Machine
    """Its secrets are shown by nobody but itself."""
    target: Machine
    """Its secrets are shown too, but never all that a call needs."""
    insider: Machine
    """Its guest is hostile, and knows its secrets."""
    began: float
    """Unix seconds."""

    def port(self, door: str) -> int:
        """Of this computer."""
        return self.gate if door == GATE else self.web

    @property
    def machines(self) -> tuple[Machine, Machine, Machine]:
        """All there are."""
        return self.honest, self.target, self.insider


@dataclass(frozen=True, slots=True)
class Item:
    """One request, or what pretends to be one."""

    door: str
    kind: str
    pieces: tuple[bytes, ...]
    """Written one after the other, with a moment between them."""
    refuse: bool = True
    """Who is let in by it has been let in without a proof."""
    whole: bool = True
    """It is HTTP as it should be, so that it is owed an answer."""
    ending: str = ""
    """`half`: the sender says that it has sent all; `cut`: it goes away."""
    is_head: bool = False
    answers: int = 1

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(map(len, self.pieces))


def request(
    method: bytes,
    target: bytes,
    headers: Headers,
    body: bytes | None = None,
    *,
    host: bytes = b"localhost",
    length: bool = True,
    version: bytes = b"HTTP/1.1",
) -> bytes:
    """Its bytes. Nothing is checked."""
    lines = [method + b" " + target + b" " + version, b"Host: " + host]
    lines += [name + b": " + value for name, value in headers]
    if body is not None and length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def chunked(body: bytes, size: int) -> bytes:
    """The body in chunks of that size."""
    parts = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def spoilt(chance: random.Random, secret: str, others: Iterable[str]) -> bytes:
    """Nearly the secret, and surely not the secret."""
    raw = secret.encode()
    at = chance.randrange(len(raw))
    match chance.randrange(10):
        case 0:
            return raw[:at]
        case 1:
            return raw + raw[:1]
        case 2:
            return b""
        case 3:
            return chance.choice([each for each in others if each != secret]).encode()
        case 4:
            return raw + b"\xff"
        case 5:
            return raw * chance.choice((2, 40))
        case 6:
            return raw + b"," + raw
        case 7:
            return b'"' + raw + b'"'
        case 8:
            return bytes(chance.choice(b"abcdefghijklmnopqrstuvwxyz0123456789") for _ in raw) + b"-"
        case _:
            other = raw[at] ^ 1 if chr(raw[at] ^ 1).isalnum() else ord("x" if raw[at] != ord("x") else "y")
            return raw[:at] + bytes([other]) + raw[at + 1 :]


def secrets_of(facts: Facts) -> list[str]:
    """All but those of the honest machine: who shows one of them shares its budget at the gate."""
    found = [facts.secret, facts.signing, facts.read_token, facts.operate_token]
    for machine in (facts.target, facts.insider):
        found += [machine.credential, machine.job_token]
    return found
