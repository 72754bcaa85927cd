"""Settings: what the service itself needs: its doors, database, log."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from firerunner.settings.secrets import ConfigFile, ReadableFile, WithSecrets
from firerunner.settings.values import Address, Duration, Networks, Section


class ListenSettings(Section):
    """The two doors."""

    web: Address = "127.0.0.1:8080"
    """Webhook, API, health and metrics."""

    web_cert_file: ReadableFile | None = None
    """PEM certificate chain: webhook, API, health and metrics are then served by HTTPS."""

    web_key_file: ReadableFile | None = None
    """PEM private key of `web_cert_file`. None: it stands in the same file."""

    gate: Address = "127.0.0.1:8181"
    """The gate. Guests of the qemu driver reach it through their keeper, so loopback is right."""

    gate_https: Address | None = None
    """The gate by HTTPS, for guests of hosts that reach it over a network. None: there is none."""

    gate_cert_file: ReadableFile | None = None
    """PEM certificate chain of `gate_https`."""

    gate_key_file: ReadableFile | None = None
    """PEM private key of `gate_cert_file`. None: it stands in the same file."""

    gate_ca_file: ReadableFile | None = None
    """PEM bundle by which guests know the gate's certificate; they get it with their boot parameters. None:
    it is of an authority that the image knows."""

    @model_validator(mode="after")
    def _keys_have_certificates(self) -> ListenSettings:
        for door, cert, key in (
            ("web", self.web_cert_file, self.web_key_file),
            ("gate", self.gate_cert_file, self.gate_key_file),
        ):
            if key is not None and cert is None:
                raise ValueError(f"{door}_key_file is given without {door}_cert_file")
        if (self.gate_https is None) != (self.gate_cert_file is None):
            raise ValueError("gate_https and gate_cert_file are given both or not at all")
        return self


class WebhookSettings(Section):
    """The webhook's door. Its secrets stand with the GitLab that knows them."""

    insecure: bool = False
    """True accepts everybody's hooks for a GitLab that has neither secret nor signing token. A hook is only a
    wake-up, so the damage is needless asks."""

    max_body: int = Field(default=10 * 1024 * 1024, ge=1024)
    """Bytes; larger bodies are refused while they are being read."""

    body_timeout: Duration = Field(default=10.0, ge=1.0, le=120.0)
    """A sender who has not sent all of the body after so long is cut off."""

    allow: Networks = ()
    """Networks that hooks may come from. Empty: all."""

    trusted_proxies: Networks = ()
    """Reverse proxies in front of us: their `X-Forwarded-For` is believed, nobody else's. By it the API tells
    its clients apart, too."""

    failures_per_minute: int = Field(default=10, ge=1)
    """A client with more failed authentications in a minute gets 429. Authentic hooks are never limited. The
    same goes for the API, which counts for itself."""


class DatabaseSettings(WithSecrets):
    """The ledger."""

    url: SecretStr | None = None
    """SQLAlchemy URL, without the driver's name. None: `ledger.db` (SQLite) in the state directory."""

    key_file: ConfigFile | None = None
    """Keys that encrypt secrets at rest, one per line, the first one writes. None: `ledger.key` beside it."""

    keep_days: float = Field(default=14.0, gt=0)
    """Ended jobs, gone machines and journal rows are kept so long."""


class LogSettings(Section):
    """The log: to standard error, from where systemd's journal keeps and rotates it, or to a file."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are written."""

    format: Literal["auto", "console", "json"] = "auto"
    """auto: readable on a terminal, JSON elsewhere."""

    file: Path | None = None
    """An absolute path; it is written with mode 0600 and rotated by the service itself. None: standard
    error."""

    max_mib: int = Field(default=100, ge=1, le=1_048_576)
    """MiB; a file that would become larger is put aside, with the time in its name, and a new one begun."""

    keep_files: int = Field(default=10, ge=0, le=10_000)
    """So many files that were put aside are kept, the newest ones."""

    keep_days: float = Field(default=28.0, gt=0)
    """Files that were put aside are removed when they are older than so many days."""

    compress: bool = True
    """Files that were put aside are compressed with gzip."""

    @field_validator("file")
    @classmethod
    def _is_absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("expected an absolute path, such as /var/log/firerunner/firerunner.log")
        return value
