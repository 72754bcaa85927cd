"""Settings: what the service itself needs: addresses, hook secret, database, log."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from firerunner.settings.values import Address, Section, WithSecrets


class ListenSettings(Section):
    """The two doors."""

    web: Address = "127.0.0.1:8080"
    """Webhook, health and metrics."""

    gate: Address = "127.0.0.1:8181"
    """The gate. Guests of the qemu driver reach it through their keeper, so loopback is right."""


class WebhookSettings(WithSecrets):
    """Who may wake us."""

    secret: SecretStr | None = None
    """The secret token set in GitLab's webhook. None: the endpoint is closed, unless `insecure`."""

    insecure: bool = False
    """True accepts every hook. A hook is only a wake-up, so the damage is needless asks."""

    max_body: int = Field(default=10 * 1024 * 1024, ge=1024)
    """Bytes; larger bodies are refused while they are being read."""

    @model_validator(mode="after")
    def _secret_is_real(self) -> WebhookSettings:
        if self.secret is not None and not self.secret.get_secret_value():
            raise ValueError("secret is empty; give one, or say `insecure: true`")
        return self


class DatabaseSettings(Section):
    """The ledger."""

    url: str = ""
    """SQLAlchemy URL, without the driver's name. Empty: `ledger.db` (SQLite) in the state directory."""

    key_file: Path | None = None
    """Keys that encrypt secrets at rest, one per line, the first one writes. None: `ledger.key` beside it."""

    keep_days: float = Field(default=14.0, gt=0)
    """Ended jobs, gone machines and journal rows are kept so long."""


class LogSettings(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"
    """auto: readable on a terminal, JSON elsewhere."""
