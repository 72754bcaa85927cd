"""A key of OpenPGP that signs, for tests; made by gpg in a home of its own."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Signer:
    """A secret key, while its `signer` block lasts."""

    home: str

    def public_key(self) -> bytes:
        """ASCII-armoured."""
        return self._gpg("--armor", "--export")

    def detached(self, content: bytes) -> bytes:
        """A signature apart from what it signs, ASCII-armoured."""
        return self._gpg("--armor", "--detach-sign", content=content)

    def clear(self, content: bytes) -> bytes:
        """The content, readable, and its signature."""
        return self._gpg("--clear-sign", content=content)

    def _gpg(self, *options: str, content: bytes = b"") -> bytes:
        quiet = ("--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", "")
        return subprocess.run(
            ["gpg", "--homedir", self.home, *quiet, *options], input=content, capture_output=True, check=True
        ).stdout


@contextlib.contextmanager
def signer() -> Iterator[Signer]:
    """A fresh key. gpg's agent, which holds it, is gone afterwards."""
    # The path of the agent's socket must be short.
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:
        Path(home).chmod(0o700)
        made = Signer(home)
        try:
            made._gpg("--quick-generate-key", "A vendor <vendor@packages.test>", "ed25519", "sign", "never")
            yield made
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)
