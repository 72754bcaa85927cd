"""A recognisable value for every secret that FireRunner is given, makes, or passes on."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote


def signing(name: str) -> str:
    """A signing token of the form that GitLab makes."""
    return f"whsec_{base64.b64encode(f'canary-{name}'.ljust(32, 'x').encode()).decode()}"


RUNNER_TOKEN = "glrt-canary-runner-token"
API_TOKEN = "glpat-canary-api-token"
WEBHOOK_SECRET = "canary-webhook-secret"
WEBHOOK_SECRET_OLD = "canary-webhook-secret-of-yesterday"
SIGNING_TOKEN = signing("signing-token")
SIGNING_TOKEN_OLD = signing("signing-token-old")
READ_TOKEN = "canary-operator-read-token-0123456789"
OPERATE_TOKEN = "canary-operator-operate-token-0123456789"
HOST_TOKEN = "canary-flintlock-host-token"
PROXY_PASSWORD = "canary-proxy-password"
POOL_PROXY_PASSWORD = "canary-pool-proxy-password"
RUNNER_CONFIG = "canary-in-runner-config"
DOCKER_PROXY = "canary-docker-daemon-proxy-password"
VARIABLE = "canary-masked-ci-variable"
DEPENDENCY_TOKEN = "canary-dependency-token"
REGISTRY_PASSWORD = "canary-registry-password"

FIXED: Mapping[str, str] = {
    name.lower().replace("_", " "): value
    for name, value in dict(globals()).items()
    if name.isupper() and isinstance(value, str)
}
"""Those that the tests choose. Others are made while they run: ledger key, job tokens, credentials."""


@dataclass(slots=True)
class Secrets:
    """All that must not be found."""

    known: dict[str, str] = field(default_factory=lambda: dict(FIXED))

    def add(self, name: str, value: str) -> None:
        """One more; of a kind there may be several."""
        self.known[f"{name} {value[:4]}…{value[-4:]}"] = value

    def forms(self) -> Iterator[tuple[str, bytes]]:
        """Each one as it is, in base64, and as a URL has it."""
        for name, value in self.known.items():
            forms = {value, base64.b64encode(value.encode()).decode(), quote(value, safe="")}
            yield from ((name, form.encode()) for form in forms)

    def found_in(self, content: bytes) -> set[str]:
        """The names of those that stand in it."""
        return {name for name, form in self.forms() if form in content}
