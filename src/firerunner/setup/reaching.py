"""The way to a GitLab's REST API with a token, as the settings say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from firerunner.gitlab import RestClient
from firerunner.settings import GitLabSettings, Settings


@asynccontextmanager
async def rest_client(settings: Settings, gitlab: GitLabSettings, token: str) -> AsyncIterator[RestClient]:
    """A client in the name of whom the token belongs to. Raises SettingsError."""
    client = RestClient(gitlab.url, token, ca_file=gitlab.ca_file, proxy=settings.proxy.for_url(gitlab.url))
    try:
        yield client
    finally:
        await client.aclose()
