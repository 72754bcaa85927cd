"""The session of a browser whose user has shown a token: a signed cookie, so that nothing of it is kept here.

It is signed with the token itself. So it holds over a restart and at every controller, and no longer than the
token: whoever changes that has signed everybody out.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass

LIFE_S = 12 * 3600
"""From the showing of the token on, whatever the browser does meanwhile."""

_COOKIE = re.compile(r"(?P<until>[0-9]{1,12})\.(?P<nonce>[A-Za-z0-9_-]{22})\.(?P<mac>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Session:
    """One browser, from its sign-in on."""

    until: int
    """Unix seconds."""
    nonce: str

    @classmethod
    def begin(cls, now: float) -> Session:
        """A new one."""
        return cls(int(now) + LIFE_S, secrets.token_urlsafe(16))

    def cookie(self, key: bytes) -> str:
        """What the browser keeps; `key` is the digest of the token."""
        return f"{self.until}.{self.nonce}.{self._mac(key, 'session')}"

    def form_token(self, key: bytes) -> str:
        """What the forms of its pages carry, and no page of another site can know."""
        return self._mac(key, "form")

    def _mac(self, key: bytes, purpose: str) -> str:
        return hmac.digest(key, f"{purpose} {self.until} {self.nonce}".encode(), "sha256").hex()


def read_cookie(cookie: str, key: bytes, now: float) -> Session | None:
    """The session, if the cookie was signed with this key and is not over."""
    parts = _COOKIE.fullmatch(cookie)
    if parts is None:
        return None
    session = Session(int(parts["until"]), parts["nonce"])
    genuine = hmac.compare_digest(session.cookie(key), cookie)
    return session if genuine and now < session.until else None
