"""The keys that encrypt job tokens and raw answers at rest, in a file beside the database.

One Fernet key per line; the first encrypts, all decrypt. The file may be replaced while it is in use, which
is how keys are rotated (`firerunner.rotation`): it is looked at before each secret is written or read. A key
that this process has once read goes on decrypting what it has in hand.
"""

from __future__ import annotations

import fcntl
import hmac
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from firerunner.errors import KeyMissing

_Stamp = tuple[int, int, int]


class Keyring:
    """Encrypts with its first key, decrypts with any."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Raises `KeyMissing` if there is no key or one is not a Fernet key."""
        self._path: Path | None = None
        self._stamp: _Stamp | None = None
        self._former: list[Fernet] = []
        self._use(keys)

    def __repr__(self) -> str:
        return "Keyring(...)"

    @classmethod
    def generate(cls) -> Keyring:
        """A keyring with one fresh key that is written nowhere."""
        return cls([Fernet.generate_key().decode()])

    @classmethod
    def load(cls, path: Path) -> Keyring:
        """Read the key file, and again when it is replaced.

        Raises `KeyMissing` if the file is not readable as keys, or readable by others, and FileNotFoundError.
        """
        keys, stamp = _read(path)
        ring = cls(keys)
        ring._path, ring._stamp = path, stamp
        return ring

    @classmethod
    def load_or_create(cls, path: Path) -> Keyring:
        """As `load`; where there is no file, one with a fresh key is written (mode 0600, parent 0700 if it is
        made)."""
        try:
            return cls.load(path)
        except FileNotFoundError:
            _write_new(path, Fernet.generate_key().decode() + "\n")
            return cls.load(path)

    @classmethod
    def add_key(cls, path: Path) -> Keyring:
        """Put a fresh key before the others, by an atomic replacement of the file."""
        _replace(path, [Fernet.generate_key().decode(), *_read(path)[0]])
        return cls.load(path)

    @classmethod
    def keep_first(cls, path: Path) -> Keyring:
        """Take all keys but the first out of the file, by an atomic replacement."""
        _replace(path, _read(path)[0][:1])
        return cls.load(path)

    @classmethod
    def count(cls, path: Path) -> int:
        """How many keys the file holds. Raises as `load` does."""
        return len(_read(path)[0])

    def encrypt(self, secret: bytes) -> bytes:
        self._look()
        return self._first.encrypt(secret)

    def decrypt(self, stored: bytes) -> bytes:
        """Raises `KeyMissing` if no key fits."""
        self._look()
        try:
            return self._all.decrypt(stored)
        except InvalidToken as error:
            raise _no_key_fits() from error

    def renew(self, stored: bytes) -> bytes:
        """The same secret under the first key. Raises `KeyMissing` if no key fits."""
        return self._first.encrypt(self.decrypt(stored))

    def is_first(self, stored: bytes) -> bool:
        """Whether it stands under the first key."""
        self._look()
        try:
            self._first.decrypt(stored)
        except InvalidToken:
            return False
        return True

    def mark(self, what: bytes) -> str:
        """The same for the same bytes, until another key is the first: an HMAC-SHA256, 64 characters."""
        self._look()
        return hmac.digest(self._secret, what, "sha256").hex()

    def _use(self, keys: Sequence[str]) -> None:
        try:
            fernets = [Fernet(key) for key in keys]
            MultiFernet(fernets)
        except ValueError as error:
            raise KeyMissing(
                "the ledger's keys are not usable: each line must be one Fernet key (44 characters)",
                remedy="restore the key file from its backup, or remove it together with the database",
            ) from error
        self._first, self._secret = fernets[0], keys[0].encode()
        self._former = [*fernets, *self._former]
        self._all = MultiFernet(self._former)

    def _look(self) -> None:
        """Take up a file that was replaced. One that is gone or wrong meanwhile changes nothing: what is in
        hand must not be lost for it."""
        if self._path is None:
            return
        try:
            if _stamp(os.stat(self._path)) == self._stamp:  # noqa: PTH116  (this is done for each secret)
                return
            keys, stamp = _read(self._path)
            self._use(keys)
        except (OSError, KeyMissing):
            return
        self._stamp = stamp


@contextmanager
def rotating(path: Path) -> Iterator[None]:
    """One rotation of this key file at a time; ends with its process. Raises `KeyMissing`."""
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise KeyMissing(f"the keys in {path} are being rotated already", remedy="wait for it") from error
    finally:
        os.close(descriptor)


def _no_key_fits() -> KeyMissing:
    return KeyMissing(
        "a secret in the ledger cannot be decrypted with any key of the key file",
        remedy="add the key it was written with as a line at the end of the key file",
    )


def _read(path: Path) -> tuple[list[str], _Stamp]:
    with path.open(encoding="ascii", errors="replace") as file:
        status = os.fstat(file.fileno())
        if status.st_mode & 0o077:
            raise KeyMissing(
                f"the key file {path} may be read by others (mode {status.st_mode & 0o777:04o})",
                remedy=f"chmod 0600 {path}",
            )
        return [line.strip() for line in file if line.strip()], _stamp(status)


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _replace(path: Path, keys: Sequence[str]) -> None:
    """The file has the old content or the new one, also after a loss of power; its owner stays."""
    Keyring(keys)  # never write what could not be read
    successor = path.with_name(path.name + ".new")
    successor.unlink(missing_ok=True)  # left by one that died
    _write_new(successor, "\n".join(keys) + "\n")
    owner = path.stat()
    if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(successor, owner.st_uid, owner.st_gid)
    successor.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _write_new(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
