"""Who may read and who may act: by bearer token, by the session of a browser, or from this computer."""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.requests import Request

from firerunner.intake.clients import Address, client_address, parsed, site
from firerunner.intake.limiting import PerClient
from firerunner.settings import ApiSettings, WebhookSettings
from firerunner.settings.values import Network
from firerunner.web.refusals import Refusal
from firerunner.web.sessions import Session, read_cookie

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""What changes nothing, and so needs the right to read only."""

_FORWARDED = frozenset(
    {"forwarded", "via", "client-ip", "true-client-ip", "cf-connecting-ip", "fastly-client-ip"}
)
_FORWARDED_BEGIN = ("x-forwarded", "x-real-", "x-original-", "x-client-ip", "x-cluster-client-ip")
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_FINGERPRINT = 8

_CLOSED = (
    "the API is closed: set api.read_token for reading and api.operate_token for acting (or files: "
    "read_token_file, operate_token_file), or say `api: {open_on_loopback: true}` for reading here"
)
_ELSEWHERE = (
    "without a token the API is read only on the computer itself, by its loopback address, and not through a "
    "proxy: set api.read_token, and show it as `Authorization: Bearer`"
)
_UNKNOWN = "show a token of the API as `Authorization: Bearer TOKEN`: it is missing, or not one of ours"
_READS_ONLY = "this token may read only: show the one of api.operate_token"
_NOBODY_ACTS = "nobody acts through the API without api.operate_token: set it (or operate_token_file)"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who was let in."""

    right: str
    """`read` or `operate`, by token; `loopback`: reading without one."""
    fingerprint: str
    """The first digits of the token's SHA-256: tells tokens apart and gives none away. Empty without one."""
    address: str


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody in a browser who was let in."""

    caller: Caller
    form_token: str
    """What a form has to carry to act; empty for who reads without a session."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """The settings in force; swapped as a whole."""

    read: bytes | None
    operate: bytes | None
    on_loopback: bool
    proxies: tuple[Network, ...]
    failures: PerClient


class Access:
    """Judges requests. Until `configure` is called for the first time, nobody gets in."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._rules = _rules(ApiSettings(), WebhookSettings(), None)
        self._clock = clock
        self._signed_out: dict[Session, None] = {}

    def configure(self, api: ApiSettings, web: WebhookSettings) -> None:
        """Go by these settings, from the next request on. `web` says which proxies are believed and how
        often a client may fail."""
        self._rules = _rules(api, web, self._rules.failures)

    def caller(self, request: Request) -> Caller:
        """Who it is, if the request's method is one of theirs. Raises Refusal."""
        rules, acts = self._rules, request.method not in SAFE_METHODS
        peer, address = self._addresses(request)
        if not (rules.read or rules.operate or rules.on_loopback):
            raise Refusal(403, _CLOSED)
        shown = request.headers.getlist("authorization")
        if not shown and not acts and rules.on_loopback and _is_from_here(peer, request.headers):
            return Caller("loopback", "", told(address))
        if not (rules.read or rules.operate):
            raise Refusal(403, _NOBODY_ACTS if acts else _ELSEWHERE)
        token = _bearer(shown)
        right = None if token is None else _right(token, rules)
        if token is None or right is None:
            raise _unauthenticated(rules.failures.spend(site(address)), shown=bool(shown))
        if acts and right != "operate":
            raise Refusal(
                403,
                _READS_ONLY if rules.operate else _NOBODY_ACTS,
                {"WWW-Authenticate": 'Bearer realm="firerunner", error="insufficient_scope"'},
            )
        return Caller(right, _fingerprint(token), told(address))

    @property
    def takes_tokens(self) -> bool:
        """Whether there is a token to sign in with."""
        return bool(self._rules.read or self._rules.operate)

    def visitor(self, request: Request, cookie: str | None) -> Visitor | None:
        """Who it is, by session or from this computer; None: a token has to be shown. Raises Refusal."""
        rules = self._rules
        peer, address = self._addresses(request)
        if not (rules.read or rules.operate or rules.on_loopback):
            raise Refusal(403, _CLOSED)
        for right, key in (("operate", rules.operate), ("read", rules.read)):
            session = read_cookie(cookie, key, self._clock()) if cookie and key else None
            if session is not None and key is not None and session not in self._signed_out:
                return Visitor(Caller(right, _fingerprint(key), told(address)), session.form_token(key))
        if rules.on_loopback and _is_from_here(peer, request.headers):
            return Visitor(Caller("loopback", "", told(address)), "")
        if not self.takes_tokens:
            raise Refusal(403, _ELSEWHERE)
        return None

    def sign_in(self, request: Request, token: str) -> str:
        """The cookie of a new session. Raises Refusal if the token is none of ours, which is counted."""
        rules, digest = self._rules, sha256(token.encode(errors="replace")).digest()
        _, address = self._addresses(request)
        if not self.takes_tokens:
            raise Refusal(403, _CLOSED if not rules.on_loopback else _NOBODY_ACTS)
        if _right(digest, rules) is None:
            retry_after_s = rules.failures.spend(site(address))
            if retry_after_s is not None:
                wait = {"Retry-After": str(retry_after_s)}
                raise Refusal(429, f"too many failures: wait {retry_after_s} s and try again", wait)
            raise Refusal(401, "this token is not one of ours: see api.read_token and api.operate_token")
        return Session.begin(self._clock()).cookie(digest)

    def sign_out(self, cookie: str) -> None:
        """The session is over here at once, also for who has copied its cookie."""
        now, rules = self._clock(), self._rules
        self._signed_out = {session: None for session in self._signed_out if session.until > now}
        for key in filter(None, (rules.read, rules.operate)):
            session = read_cookie(cookie, key, now)
            if session is not None:
                self._signed_out[session] = None

    def _addresses(self, request: Request) -> tuple[str | None, Address | None]:
        """The other end of the connection, and the client that it speaks for."""
        peer = request.client.host if request.client else None
        forwarded = request.headers.getlist("x-forwarded-for")
        return peer, client_address(peer, forwarded, self._rules.proxies)


def told(address: Address | None) -> str:
    """The address as the journal has it."""
    return str(address or "unknown")


def _fingerprint(digest: bytes) -> str:
    return digest.hex()[:_FINGERPRINT]


def _rules(api: ApiSettings, web: WebhookSettings, before: PerClient | None) -> _Rules:
    kept = before is not None and before.per_minute == web.failures_per_minute
    failures = before if before is not None and kept else PerClient(web.failures_per_minute)
    proxies = tuple(web.trusted_proxies)
    return _Rules(
        _digest(api.read_token), _digest(api.operate_token), api.open_on_loopback, proxies, failures
    )


def _digest(token: SecretStr | None) -> bytes | None:
    return None if token is None else sha256(token.get_secret_value().encode()).digest()


def _bearer(shown: Iterable[str]) -> bytes | None:
    """The digest of the token; None unless there is exactly one, as a bearer's."""
    match [line.split() for line in shown]:
        case [[scheme, token]] if scheme.lower() == "bearer":
            return sha256(token.encode()).digest()
    return None


def _right(token: bytes, rules: _Rules) -> str | None:
    """Both are compared in every case, so that the time says nothing."""
    operates = hmac.compare_digest(token, rules.operate or b"")
    reads = hmac.compare_digest(token, rules.read or b"")
    return "operate" if operates else "read" if reads else None


def _unauthenticated(retry_after_s: int | None, *, shown: bool) -> Refusal:
    """401, or 429 for a client who has failed too often. Who shows the right token is never limited."""
    if retry_after_s is not None:
        return Refusal(429, f"too many failures; {_UNKNOWN}", {"Retry-After": str(retry_after_s)})
    error = ', error="invalid_token"' if shown else ""
    return Refusal(401, _UNKNOWN, {"WWW-Authenticate": f'Bearer realm="firerunner"{error}'})


def _is_from_here(peer: str | None, headers: Headers) -> bool:
    """By the other end of the connection; nothing says that somebody else is behind it, and the name that was
    called is this computer's own: a page in a browser here may have its name resolve to loopback."""
    address = None if peer is None else parsed(peer)
    if address is None or not address.is_loopback:
        return False
    if any(name in _FORWARDED or name.startswith(_FORWARDED_BEGIN) for name in headers):
        return False
    return _is_local(headers.get("host", ""))


def _is_local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
