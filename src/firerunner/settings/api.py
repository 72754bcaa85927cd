"""Settings: who may read and operate through the operator API."""

from __future__ import annotations

import re

from pydantic import SecretStr, field_validator, model_validator

from firerunner.settings.secrets import WithSecrets

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{32,1024}")
"""What a bearer token may be made of (RFC 6750), and long enough that nobody guesses it."""


class ApiSettings(WithSecrets):
    """The operator API, `/api/v1` on `listen.web`. Without a token it is closed."""

    read_token: SecretStr | None = None
    """Whoever shows it may read. At least 32 letters, digits and `._~+/=-`. None: nobody has it."""

    operate_token: SecretStr | None = None
    """Whoever shows it may read and act: cordon, uncordon, drain, believe, destroy. Made like `read_token`.
    None: nobody acts through the API."""

    open_on_loopback: bool = False
    """True lets programs on this computer read without a token. Not for requests that a proxy has passed on;
    nobody acts without a token."""

    @field_validator("read_token", "operate_token")
    @classmethod
    def _is_long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _TOKEN.fullmatch(value.get_secret_value()):
            raise ValueError(
                "expected at least 32 letters, digits and ._~+/=- in one word: `openssl rand -hex 32`"
            )
        return value

    @model_validator(mode="after")
    def _are_two(self) -> ApiSettings:
        if self.read_token is not None and self.read_token == self.operate_token:
            raise ValueError("read_token and operate_token are the same; whoever reads could act")
        return self
