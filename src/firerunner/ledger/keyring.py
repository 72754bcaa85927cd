"""The keys that encrypt job tokens and raw answers at rest, in a file beside the database.

One Fernet key per line; the first encrypts, all decrypt. To rotate, put a new key first
(`Keyring.add_key`), run `Ledger.rekey()`, then remove the old lines.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from firerunner.errors import KeyMissing


class Keyring:
    """Encrypts with its first key, decrypts with any."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Raises `KeyMissing` if there is no key or one is not a Fernet key."""
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError as error:
            raise KeyMissing(
                "the ledger's keys are not usable: each line must be one Fernet key (44 characters)",
                remedy="restore the key file from its backup, or remove it together with the database",
            ) from error

    def __repr__(self) -> str:
        return "Keyring(...)"

    @classmethod
    def generate(cls) -> Keyring:
        """A keyring with one fresh key that is written nowhere."""
        return cls([Fernet.generate_key().decode()])

    @classmethod
    def load_or_create(cls, path: Path) -> Keyring:
        """Read the key file, or write one with a fresh key (mode 0600, parent 0700 if it is made).

        Raises `KeyMissing` if the file is not readable as keys, or readable by others.
        """
        try:
            keys = _read(path)
        except FileNotFoundError:
            _write_new(path, Fernet.generate_key().decode() + "\n")
            keys = _read(path)
        return cls(keys)

    @classmethod
    def add_key(cls, path: Path) -> Keyring:
        """Put a fresh key before the others, by an atomic replacement of the file."""
        keys = [Fernet.generate_key().decode(), *_read(path)]
        successor = path.with_name(path.name + ".new")
        successor.unlink(missing_ok=True)
        _write_new(successor, "\n".join(keys) + "\n")
        successor.replace(path)
        return cls(keys)

    def encrypt(self, secret: bytes) -> bytes:
        return self._fernet.encrypt(secret)

    def decrypt(self, stored: bytes) -> bytes:
        """Raises `KeyMissing` if no key fits."""
        try:
            return self._fernet.decrypt(stored)
        except InvalidToken as error:
            raise _no_key_fits() from error

    def renew(self, stored: bytes) -> bytes:
        """The same secret under the first key. Raises `KeyMissing` if no key fits."""
        try:
            return self._fernet.rotate(stored)
        except InvalidToken as error:
            raise _no_key_fits() from error


def _no_key_fits() -> KeyMissing:
    return KeyMissing(
        "a secret in the ledger cannot be decrypted with any key of the key file",
        remedy="add the key it was written with as a line at the end of the key file",
    )


def _read(path: Path) -> list[str]:
    with path.open(encoding="ascii", errors="replace") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & 0o077:
            raise KeyMissing(
                f"the key file {path} may be read by others (mode {mode & 0o777:04o})",
                remedy=f"chmod 0600 {path}",
            )
        return [line.strip() for line in file if line.strip()]


def _write_new(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
