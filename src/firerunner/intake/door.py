"""`POST /webhook`: only hooks of a GitLab of ours get in, and those always get 2xx, at once.

GitLab does not redeliver a failed hook and switches a failing one off (reference: gitlab.md 1.6), so a hook
that is authentic is never answered with an error, whatever is in it and whatever we are doing. All others are
refused with a message that says what is missing, for whoever looks at the hook's log in GitLab.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from firerunner.intake.answers import Refused, Unread
from firerunner.intake.bodies import STRANGERS_BYTES, Bodies, TooLarge, TooMuch, TooSlow
from firerunner.intake.clients import Address, client_address, site, within
from firerunner.intake.hooks import Hook, read_hook
from firerunner.intake.limiting import PerClient
from firerunner.intake.proofs import Proofs, Standing, by_signature
from firerunner.intake.replays import Replays
from firerunner.serving.whole import has_come
from firerunner.settings import GitLabSettings, WebhookSettings

Wake = Callable[[Hook], None]
Count = Callable[[str], None]

_NOT_OURS = (
    "not shown to be a hook of a GitLab of ours: the secret token or the signature is missing or wrong; "
    "FireRunner's log says which"
)
_CLOSED = (
    "no webhook secret is configured: set webhook_secret or webhook_signing_token of the gitlab (or a file: "
    "webhook_secret_file, webhook_signing_token_file), or say `webhook: {insecure: true}`"
)
_HOW_TO = "this is where GitLab sends its Job and Pipeline hooks, by POST; nothing is to be seen here"
_ACCEPTED = JSONResponse({"message": "accepted"})
"""One for all: it holds nothing of its request."""
_LONGEST_NUMBER = 20


@dataclass(frozen=True, slots=True)
class _Rules:
    """The settings in force; swapped as a whole, and a request keeps those that it began with."""

    webhook: WebhookSettings
    proofs: Proofs
    failures: PerClient


class Door:
    """The endpoint. `wake` must not block; `count` gets one word for each request, of a small set."""

    def __init__(self, wake: Wake, count: Count) -> None:
        self._wake = wake
        self._count = count
        self._log = structlog.get_logger("firerunner.intake")
        self._logged = PerClient(1)
        self._bodies = Bodies()
        self._replays = Replays()
        self._rules = _rules(WebhookSettings(), (), None)

    def configure(self, webhook: WebhookSettings, gitlabs: Sequence[GitLabSettings]) -> None:
        """Go by these settings, from the next request on. Until the first time, the door is closed."""
        self._rules = _rules(webhook, gitlabs, self._rules.failures)

    async def endpoint(self, request: Request) -> Response:
        """Answers one request."""
        if request.method != "POST":
            self._count("method")
            return JSONResponse({"message": _HOW_TO}, 405, {"Allow": "POST"})
        rules = self._rules
        try:
            return self._accepted(await self._authentic(request, rules))
        except Refused as refused:
            return self._refusal(refused, rules, _client(request, rules))
        except ClientDisconnect:
            self._count("cut")
            return Response(status_code=204)  # to nobody

    async def _authentic(self, request: Request, rules: _Rules) -> Hook | str:
        """The hook, or the outcome if there is nothing in it for us. Raises Refused, ClientDisconnect."""
        if not _allowed(request, rules):
            raise Refused(403, "not_allowed", "hooks from this address are not allowed (webhook.allow)")
        if rules.proofs.closed:
            raise Refused(403, "closed", _CLOSED)
        standing = rules.proofs.by_headers(request.headers)
        if standing.hopeless:
            raise _failed(rules, _client(request, rules), standing, Unread.STRANGER)
        known = bool(standing.by_secret)
        if not _plain(request.headers.getlist("content-encoding")):
            raise Refused(415, "compressed", "compressed bodies are not accepted", _unread(known))
        body = await self._body(request, rules.webhook, known=known)
        signed = by_signature(standing, body)
        unsigned = standing.by_secret + standing.unproven
        if not (signed or unsigned):
            raise _failed(rules, _client(request, rules), standing, Unread.NONE)
        new = [name for name in signed if standing.signed and self._replays.is_new(name, standing.signed.id)]
        if not (new or unsigned):
            return "replayed"
        return read_hook(body, (*unsigned, *new)) or "not_understood"

    async def _body(self, request: Request, webhook: WebhookSettings, *, known: bool) -> bytes:
        limit, patience_s = webhook.max_body, webhook.body_timeout
        try:
            if _number(request.headers.get("content-length", "0")) > limit:
                raise TooLarge
            if has_come(request.scope):
                return await _come(request, limit)
            return await self._bodies.read(request.stream(), limit, patience_s, stranger=not known)
        except TooLarge:
            message = f"larger than {limit} bytes (webhook.max_body)"
            raise Refused(413, "too_large", message, _unread(known)) from None
        except TooSlow:
            message = f"the body has not come within {patience_s:g} s (webhook.body_timeout)"
            raise Refused(408, "slow", message, Unread.NONE) from None
        except TooMuch:
            message = f"more than {STRANGERS_BYTES} bytes of hooks not proven yet are being received"
            raise Refused(429, "too_much", message, Unread.NONE, retry_after_s=1) from None

    def _accepted(self, hook: Hook | str) -> Response:
        if isinstance(hook, str):
            self._count(hook)
            return JSONResponse({"message": f"accepted, {hook.replace('_', ' ')}"})
        outcome = "woke" if hook.means_work else "ignored"
        try:
            if hook.means_work:
                self._wake(hook)
        except Exception:
            self._log.exception("a hook was accepted but could not wake", project=hook.project_id)
            outcome = "not_woken"
        self._count(outcome)
        return _ACCEPTED

    def _refusal(self, refused: Refused, rules: _Rules, client: Address | None) -> Response:
        self._count(refused.outcome)
        if self._logged.spend(site(client)) is None:
            self._log.warning(
                "hook refused",
                client=str(client or "unknown"),
                status=refused.status,
                outcome=refused.outcome,
                why=refused.message,
                **refused.facts,
            )
        return refused.answer(rules.webhook.body_timeout)


async def _come(request: Request, limit: int) -> bytes:
    """The body, all of which is here. Raises TooLarge, ClientDisconnect."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    body: bytes = message.get("body", b"")
    if len(body) > limit:
        raise TooLarge
    return body


def _client(request: Request, rules: _Rules) -> Address | None:
    peer = request.client.host if request.client else None
    return client_address(peer, request.headers.getlist("x-forwarded-for"), rules.webhook.trusted_proxies)


def _allowed(request: Request, rules: _Rules) -> bool:
    if not rules.webhook.allow:
        return True
    client = _client(request, rules)
    return client is not None and within(client, rules.webhook.allow)


def _unread(known: bool) -> Unread:
    return Unread.KNOWN if known else Unread.STRANGER


def _plain(encodings: list[str]) -> bool:
    return {word.strip().lower() for word in ",".join(encodings).split(",")} <= {"", "identity"}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < _LONGEST_NUMBER else 0


def _failed(rules: _Rules, client: Address | None, standing: Standing, unread: Unread) -> Refused:
    """401, or 429 for a client who has failed too often. Only failures come here: who is right is never
    limited."""
    retry_after_s = rules.failures.spend(site(client))
    if retry_after_s is None:
        return Refused(401, "unauthenticated", _NOT_OURS, unread, gitlab=standing.faults)
    message = f"too many failures; {_NOT_OURS}"
    return Refused(429, "limited", message, unread, retry_after_s=retry_after_s, gitlab=standing.faults)


def _rules(webhook: WebhookSettings, gitlabs: Sequence[GitLabSettings], before: PerClient | None) -> _Rules:
    kept = before is not None and before.per_minute == webhook.failures_per_minute
    failures = before if before is not None and kept else PerClient(webhook.failures_per_minute)
    return _Rules(webhook, Proofs(gitlabs, insecure=webhook.insecure), failures)
