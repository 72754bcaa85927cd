"""Is the speaker the machine that its path names?

The ledger holds only SHA-256 hashes of credentials. That is enough for random 256-bit texts, which
cannot be guessed, and is compared in constant time.
"""

from __future__ import annotations

import hashlib
from hmac import compare_digest

from firerunner.gate.exchange import Exchange
from firerunner.gate.ports import GateLedger
from firerunner.gate.refusals import Kind, Refusal
from firerunner.ledger.records import MachineRecord
from firerunner.ledger.states import MachineState

MAX_SECRET_CHARS = 1024


def digest(secret: str) -> str:
    """SHA-256 in hex: the form in which the ledger keeps a credential."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def same_digest(said: str, known: str) -> bool:
    """Constant time; both are hex."""
    return compare_digest(said, known)


def bearer(exchange: Exchange) -> str:
    """The credential in `Authorization: Bearer`. Raises `Refusal`."""
    scheme, _, credential = (exchange.header("authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not 0 < len(credential.strip()) <= MAX_SECRET_CHARS:
        raise Refusal(403, Kind.WRONG_CREDENTIAL, "the machine's credential is needed as a bearer token")
    return credential.strip()


def known_machine(machine: MachineRecord | None) -> MachineRecord:
    """The machine of a path, unless it is unknown or gone."""
    if machine is None or machine.state is MachineState.GONE:
        raise Refusal(403, Kind.UNKNOWN_MACHINE, "no such machine")
    return machine


async def prove(ledger: GateLedger, machine_id: str, credential: str) -> MachineRecord:
    """The machine, if the credential is its own. Raises `Refusal`."""
    machine = known_machine(await ledger.machine(machine_id))
    if machine.credential_hash is None or not same_digest(digest(credential), machine.credential_hash):
        raise Refusal(403, Kind.WRONG_CREDENTIAL, "this is not the machine's credential")
    return machine
