"""Changes the ledger's key: a new one in front, everything encrypted again, the old ones out of the file.

The key file says at every moment how what is stored can be read: it holds the old keys until nothing stands
under them any more. So it may be broken off anywhere, and the next call goes on. A service that runs looks at
the file before it writes a secret, and writes it in the transaction in which it has looked.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from firerunner.app import existing_ledger
from firerunner.errors import KeyMissing
from firerunner.ledger import Keyring, Ledger
from firerunner.ledger.keyring import rotating
from firerunner.ledger.secrets import Standing
from firerunner.settings import Settings

SETTLE_S = 35.0
"""Longer than a transaction on PostgreSQL can take (`ledger.database`): one that had looked at the file
before the new key was in it has ended then. SQLite has one writer at a time, who is waited for."""

ROUNDS = 3

Step = Literal["begin", "end", "both"]


@dataclass(frozen=True, slots=True)
class Rotated:
    """What was done."""

    resumed: bool
    """An earlier rotation had not come to its end; its key was taken."""
    secrets: int
    """Encrypted again."""
    removed: int
    """Old keys taken out of the file."""


@dataclass(frozen=True, slots=True)
class KeyReport:
    """How the ledger can be read with the key file as it is."""

    keys: int
    first: int
    older: int
    unreadable: int


async def rotate(settings: Settings, step: Step = "both") -> Rotated:
    """Go through it. Raises FireRunnerError; the file then still holds all keys that are needed."""
    path = settings.key_file
    shared = not settings.database_url.startswith("sqlite")
    if shared and step == "both":
        raise KeyMissing(
            "other controllers may use this ledger, each with a key file of its own",
            remedy="Run `firerunner key rotate --begin`, copy the key file to all of them, then run "
            "`firerunner key rotate --end` here, and copy it again",
        )
    async with existing_ledger(settings, key_is_there=True) as ledger:
        with rotating(path):
            await _require_readable(ledger)
            resumed = Keyring.count(path) > 1
            if step == "end" and not resumed:
                raise KeyMissing(
                    f"{path} holds one key only: no rotation has begun",
                    remedy="Begin with `firerunner key rotate --begin`",
                )
            if not resumed:
                Keyring.add_key(path)
            if step == "begin":
                return Rotated(resumed, 0, 0)
            secrets = await _renew_all(ledger, SETTLE_S if shared else 0.0)
            removed = Keyring.count(path) - 1
            Keyring.keep_first(path)
            return Rotated(resumed, secrets, removed)


async def check(settings: Settings) -> KeyReport:
    """Try all keys on all secrets. Raises FireRunnerError."""
    async with existing_ledger(settings, key_is_there=True) as ledger:
        found = await ledger.secrets_by_key()
    return KeyReport(
        keys=Keyring.count(settings.key_file),
        first=found[Standing.FIRST],
        older=found[Standing.OLDER],
        unreadable=found[Standing.UNREADABLE],
    )


async def _require_readable(ledger: Ledger) -> None:
    lost = (await ledger.secrets_by_key())[Standing.UNREADABLE]
    if lost:
        raise KeyMissing(
            f"{lost} secrets in the ledger cannot be decrypted with any key of the key file",
            remedy="Add the key they were written with as a line at the end of the key file",
        )


async def _renew_all(ledger: Ledger, settle_s: float) -> int:
    """Until nothing stands under an older key, and nothing that was under way can come under one."""
    total = await ledger.rekey()
    for _ in range(ROUNDS):
        await asyncio.sleep(settle_s)
        if not (await ledger.secrets_by_key())[Standing.OLDER]:
            return total
        await ledger.rekey()
    raise KeyMissing(
        "a controller goes on writing with an older key",
        remedy="Copy the key file to every controller, and run it again",
    )
