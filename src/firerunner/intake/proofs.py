"""Whose hook it is: what a request must show so that it is taken for one of a GitLab of ours.

GitLab knows two ways, and a hook may use both (reference: gitlab.md 1.5). The secret token stands in clear
text in each request. The signing token stays with GitLab, which signs the id, the time and the body (Standard
Webhooks). What is configured for a GitLab has to be shown, all of it: if a signature that is missing were
forgiven, the secret alone would be enough for whoever has seen it once.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError
from starlette.datastructures import Headers

from firerunner.settings import GitLabSettings

TOKEN, ID, TIMESTAMP, SIGNATURE = "x-gitlab-token", "webhook-id", "webhook-timestamp", "webhook-signature"

_MOST_SIGNATURES = 16
_LONGEST_ID = 256
_TIME = re.compile(r"\d{1,12}")
_V1 = re.compile(r"v1,[A-Za-z0-9+/]{43}=")


@dataclass(frozen=True, slots=True)
class _Keys:
    """What a GitLab's hooks are known by; of each kind, any one will do, so that it can be changed."""

    name: str
    secrets: tuple[bytes, ...]
    """SHA-256 of each: all of one length, so that a comparison does not tell theirs."""
    signers: tuple[Webhook, ...]


@dataclass(frozen=True, slots=True)
class Signed:
    """The headers of a signature: well-formed, not verified."""

    id: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Standing:
    """What the headers alone have shown."""

    by_secret: tuple[str, ...]
    """GitLabs whose secret token was right, and which do not sign."""

    unproven: tuple[str, ...]
    """GitLabs without either, whose hooks anybody may send, because the settings say so."""

    waiting: tuple[_Keys, ...]
    """Those for which all depends on the signature, which needs the body."""

    signed: Signed | None
    faults: dict[str, str]
    """For each other GitLab, why it is not its hook. Holds nothing secret."""

    @property
    def hopeless(self) -> bool:
        return not (self.by_secret or self.unproven or self.waiting)


class Proofs:
    """What the GitLabs' hooks are known by. Immutable."""

    def __init__(self, gitlabs: Sequence[GitLabSettings], *, insecure: bool) -> None:
        keys = [_keys(gitlab) for gitlab in gitlabs]
        self._keys = tuple(each for each in keys if each.secrets or each.signers)
        self._signing = any(each.signers for each in self._keys)
        self._open = tuple(each.name for each in keys if each not in self._keys) if insecure else ()

    @property
    def closed(self) -> bool:
        """True if there is nothing by which a hook could be accepted."""
        return not self._keys and not self._open

    def by_headers(self, headers: Headers) -> Standing:
        """What can be told before the body. Takes as long for a right token as for a wrong one."""
        tokens, signed = headers.getlist(TOKEN), _signed(headers) if self._signing else None
        token = hashlib.sha256(tokens[0].encode("latin-1")).digest() if len(tokens) == 1 else None
        proven, waiting, faults = [], [], {}
        for keys in self._keys:
            right = [hmac.compare_digest(secret, token or b"") for secret in keys.secrets]
            if keys.secrets and not any(right):
                faults[keys.name] = f"secret token {'wrong' if tokens else 'missing'}"
            elif not keys.signers:
                proven.append(keys.name)
            elif signed is None:
                faults[keys.name] = "signature missing"
            else:
                waiting.append(keys)
        return Standing(tuple(proven), self._open, tuple(waiting), signed, faults)


def by_signature(standing: Standing, body: bytes) -> tuple[str, ...]:
    """The GitLabs, of those that wait for it, whose signature of these bytes is right and of these minutes.

    The others are added to the faults. The time may differ from ours by five minutes either way. A body
    that is not UTF-8, which GitLab never sends, has no right signature.
    """
    proven = []
    for keys in standing.waiting:
        fault = _fault(keys.signers, standing.signed, body)
        if fault is None:
            proven.append(keys.name)
        else:
            standing.faults[keys.name] = fault
    return tuple(proven)


def _fault(signers: tuple[Webhook, ...], signed: Signed | None, body: bytes) -> str | None:
    if signed is None:
        return "signature missing"
    fault = ""
    for signer in signers:
        try:
            signer.verify(body, signed.headers, json_parse=False)
        except WebhookVerificationError as error:
            fault = f"signature wrong: {error}"
        except UnicodeDecodeError:
            fault = "signature wrong: the body is not UTF-8"
        else:
            return None
    return fault


def _signed(headers: Headers) -> Signed | None:
    """None unless each header is there once and well-formed. Of the signatures, those of other versions and
    what is no signature are left out, as the specification wants it."""
    ids, times, signatures = (headers.getlist(name) for name in (ID, TIMESTAMP, SIGNATURE))
    if not (len(ids) == len(times) == len(signatures) == 1):
        return None
    usable = [each for each in signatures[0].split(" ") if _V1.fullmatch(each)][:_MOST_SIGNATURES]
    if not usable or not 0 < len(ids[0]) <= _LONGEST_ID or not _TIME.fullmatch(times[0]):
        return None
    return Signed(ids[0], {ID: ids[0], TIMESTAMP: times[0], SIGNATURE: " ".join(usable)})


def _keys(gitlab: GitLabSettings) -> _Keys:
    secrets = _given(gitlab.webhook_secret, gitlab.webhook_secret_old)
    signers = _given(gitlab.webhook_signing_token, gitlab.webhook_signing_token_old)
    return _Keys(
        gitlab.name,
        tuple(hashlib.sha256(secret.encode()).digest() for secret in secrets),
        tuple(Webhook(token) for token in signers),
    )


def _given(*secrets: SecretStr | None) -> list[str]:
    return [secret.get_secret_value() for secret in secrets if secret is not None]
