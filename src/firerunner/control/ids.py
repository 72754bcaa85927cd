"""Machine ids and credentials: where randomness comes in."""

from __future__ import annotations

import hashlib
import secrets
import string

_ALPHABET = string.ascii_lowercase + string.digits


def new_machine_id() -> str:
    """A fresh id of the shape in `machines.spec.MACHINE_ID`: 62 random bits."""
    return "fr-" + "".join(secrets.choice(_ALPHABET) for _ in range(12))


def new_credential() -> tuple[str, str]:
    """A one-machine credential and its SHA-256 in hex, which is all that the ledger keeps of it."""
    credential = secrets.token_urlsafe(32)
    return credential, hashlib.sha256(credential.encode()).hexdigest()
