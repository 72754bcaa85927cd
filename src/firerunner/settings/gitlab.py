"""Settings: a GitLab whose jobs are run."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import urlsplit

from pydantic import SecretStr, field_validator

from firerunner.machines.spec import Destination
from firerunner.settings.secrets import ReadableFile, WithSecrets
from firerunner.settings.values import checked_url

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_SIGNING_PREFIX = "whsec_"
_SIGNING_BYTES = range(24, 65)
"""What Standard Webhooks allows; GitLab makes 32."""


class GitLabSettings(WithSecrets):
    """Where GitLab is, for us and for guests, and what it and we know each other by."""

    name: str = "gitlab"
    """What pools and logs call it. Needed with several GitLabs only."""

    url: str
    """GitLab's base address as this computer reaches it, for example https://gitlab.example.com."""

    clone_url: str = ""
    """GitLab's base address as guests reach it. Empty: the same as `url`."""

    ca_file: ReadableFile | None = None
    """PEM bundle to trust for GitLab besides the system's; guests get it too. None: no other."""

    api_token: SecretStr | None = None
    """A token with scope `api`, or `read_api` and `create_runner`. None: what needs it is off; jobs run
    all the same."""

    webhook_secret: SecretStr | None = None
    """The secret token of GitLab's webhooks (`X-Gitlab-Token`)."""

    webhook_secret_old: SecretStr | None = None
    """Valid as well, while the secret token is being changed."""

    webhook_signing_token: SecretStr | None = None
    """The signing token of GitLab's webhooks, `whsec_…` (GitLab 19)."""

    webhook_signing_token_old: SecretStr | None = None
    """Valid as well, while the signing token is being changed."""

    @field_validator("name")
    @classmethod
    def _is_plain_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("expected lower-case letters, digits and dashes, at most 40 characters")
        return value

    @field_validator("url")
    @classmethod
    def _is_base_url(cls, value: str) -> str:
        return checked_url(value)

    @field_validator("clone_url")
    @classmethod
    def _is_base_url_or_empty(cls, value: str) -> str:
        return checked_url(value) if value else value

    @field_validator("api_token")
    @classmethod
    def _is_a_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[!-~]+", value.get_secret_value()):
            raise ValueError("expected a token (`glpat-…`), in one word")
        return value

    @field_validator("webhook_secret", "webhook_secret_old")
    @classmethod
    def _is_a_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().strip():
            raise ValueError(
                "is empty; give a secret, or take the key out and say `webhook: {insecure: true}`"
            )
        return value

    @field_validator("webhook_signing_token", "webhook_signing_token_old")
    @classmethod
    def _is_a_signing_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        text = value.get_secret_value()
        try:
            key = base64.b64decode(text.removeprefix(_SIGNING_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not text.startswith(_SIGNING_PREFIX) or len(key) not in _SIGNING_BYTES:
            raise ValueError("expected `whsec_` and the base64 of 24 to 64 bytes, as GitLab shows it")
        return value

    @property
    def guest_url(self) -> str:
        """GitLab's base address as guests use it."""
        return self.clone_url or self.url

    @property
    def knows_its_hooks(self) -> bool:
        """True if there is anything by which a hook can be told to be this GitLab's."""
        return bool(self.webhook_secret or self.webhook_signing_token)

    @property
    def destination(self) -> Destination:
        """GitLab as an egress destination of a pool."""
        guest, ours = urlsplit(self.guest_url), urlsplit(self.url)
        host, port = guest.hostname or "", guest.port or _DEFAULT_PORTS[guest.scheme]
        there = ours.hostname or ""
        return Destination(host, port, None if host == there else f"[{there}]" if ":" in there else there)
