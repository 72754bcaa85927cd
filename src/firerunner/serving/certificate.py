"""The certificate of a listening socket, read anew when it has been renewed."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509

from firerunner.errors import SettingsError

_WORDS = {
    "KEY_VALUES_MISMATCH": "the key belongs to another certificate",
    "BAD_DECRYPT": "the key is encrypted",
    "BAD_PASSWORD_READ": "the key is encrypted",
    "EE_KEY_TOO_SMALL": "the key is too short",
    "CA_MD_TOO_WEAK": "it is signed with a hash that is too weak",
}


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files: the chain, the server's own certificate first, and its key (None: in the same file)."""

    chain: Path
    key: Path | None = None

    @classmethod
    def of(cls, chain: Path | None, key: Path | None) -> Self | None:
        """As the settings name them; None for a socket without TLS."""
        return cls(chain, key) if chain else None

    def context(self) -> ssl.SSLContext:
        """What TLS needs, as the files are now: TLS 1.2 and 1.3. Raises SettingsError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self.chain, self.key, password=_nobody_to_ask)
        except ssl.SSLError as error:
            raise self._unusable(_WORDS.get(error.reason, "not a PEM chain and its key")) from error
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        return context

    def expires_at(self) -> float | None:
        """When the server's own certificate expires, as the file is now (Unix seconds); None if unknown."""
        try:
            first = x509.load_pem_x509_certificates(self.chain.read_bytes())[0]
        except (OSError, ValueError):
            return None
        return first.not_valid_after_utc.timestamp()

    def _unusable(self, why: str) -> SettingsError:
        key = "" if self.key is None else f" with the key {self.key}"
        return SettingsError(
            f"cannot use the certificate {self.chain}{key}: {why}",
            remedy="`listen.web_cert_file` needs a PEM chain, the server's certificate first, and "
            "`listen.web_key_file` its key, not encrypted; the service must be allowed to read both",
        )


def _nobody_to_ask() -> str:
    """A pass phrase for an encrypted key: else OpenSSL would ask on the terminal and the service hang."""
    return ""
