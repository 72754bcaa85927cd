"""Settings: the GitLab whose jobs are run."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr, field_validator, model_validator

from firerunner.machines.spec import Destination
from firerunner.settings.values import WithSecrets

_DEFAULT_PORTS = {"http": 80, "https": 443}


class GitLabSettings(WithSecrets):
    """Where GitLab is, for us and for guests."""

    url: str
    """GitLab's base address as this computer reaches it, for example https://gitlab.example.com."""

    clone_url: str = ""
    """GitLab's base address as guests reach it. Empty: the same as `url`."""

    ca_file: Path | None = None
    """PEM bundle to trust for GitLab. None: the system's."""

    api_token: SecretStr | None = None
    """A token with scope `read_api` or `api`. None: what needs it is off; jobs run all the same."""

    @field_validator("url", "clone_url")
    @classmethod
    def _is_base_url(cls, value: str) -> str:
        if value == "":
            return value
        parts = urlsplit(value)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ValueError(f"expected http(s)://host[:port][/path], got {value!r}")
        if parts.username or parts.query or parts.fragment:
            raise ValueError("the address must hold no user, query or fragment")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _url_is_given(self) -> GitLabSettings:
        if not self.url:
            raise ValueError("url must not be empty")
        return self

    @property
    def guest_url(self) -> str:
        """GitLab's base address as guests use it."""
        return self.clone_url or self.url

    @property
    def destination(self) -> Destination:
        """GitLab as an egress destination of a pool."""
        guest, ours = urlsplit(self.guest_url), urlsplit(self.url)
        host, port = guest.hostname or "", guest.port or _DEFAULT_PORTS[guest.scheme]
        return Destination(host, port, None if host == ours.hostname else ours.hostname)
