"""The connections to the GitLabs, opened anew where a reload has changed how one is reached."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from firerunner.errors import GitLabError, SettingsError
from firerunner.gitlab import GitLabCalls, JobClient, RestClient, RunnerClient, RunnersClient, new_http
from firerunner.gitlab.measured import Call
from firerunner.settings import GitLabSettings, Settings

_SPARE_CONNECTIONS = 100


@dataclass(frozen=True, slots=True)
class _Way:
    """What a connection depends on."""

    url: str
    ca: bytes | None
    proxy: str | None


class Connections:
    """Gives the clients of a GitLab by its name, those of the settings in force.

    A client that is replaced, or whose GitLab is taken out, is closed with the stack: calls and jobs in
    flight go on with it.
    """

    def __init__(
        self,
        stack: AsyncExitStack,
        count: Callable[[str, str], None],
        heard: Callable[[str, Call], None],
    ) -> None:
        """`count`: activity and kind of error. `heard`: each call, with the name of its GitLab."""
        self._stack = stack
        self._count = count
        self._heard = heard
        self._calls: dict[str, GitLabCalls] = {}
        self._ways: dict[str, _Way] = {}
        self._tokens: dict[str, str] = {}
        self._ca_files: dict[str, Path | None] = {}
        self._rest: dict[str, RestClient] = {}

    async def configure(self, settings: Settings) -> None:
        """Reach the GitLabs as these settings say. Raises SettingsError, and then nothing has changed."""
        opened: dict[str, tuple[_Way, GitLabCalls]] = {}
        for gitlab in settings.gitlab:
            way = _Way(gitlab.url, _content(gitlab), settings.proxy.for_url(gitlab.url))
            if self._ways.get(gitlab.name) != way:
                opened[gitlab.name] = way, await self._open(way, gitlab, settings)
        for name, (way, calls) in opened.items():
            self._ways[name], self._calls[name] = way, calls
            self._rest.pop(name, None)
        tokens = {each.name: each.api_token.get_secret_value() for each in settings.gitlab if each.api_token}
        for name in [name for name in self._rest if self._tokens.get(name) != tokens.get(name)]:
            del self._rest[name]
        self._tokens = tokens
        self._ca_files = {each.name: each.ca_file for each in settings.gitlab}

    def __call__(self, name: str) -> GitLabCalls:
        """Raises GitLabError for a GitLab that this service has not known since its start."""
        try:
            return self._calls[name]
        except KeyError:
            raise GitLabError(
                f"gitlab {name!r} is not configured", remedy="Put it back until its last job has ended"
            ) from None

    def rest(self, name: str) -> RestClient:
        """The REST API of a GitLab, with its `api_token`. Raises GitLabError if there is none."""
        if name not in self._tokens:
            raise GitLabError(f"gitlab {name!r} has no api_token", remedy="Give one: sized tags need it")
        if name not in self._rest:
            way = self._ways[name]
            client = RestClient(
                *(way.url, self._tokens[name]),
                ca_file=self._ca_files[name],
                proxy=way.proxy,
                heard=partial(self._heard, name),
            )
            self._stack.push_async_callback(client.aclose)
            self._rest[name] = client
        return self._rest[name]

    def rest_if_any(self, name: str) -> RestClient | None:
        """As `rest`; None for a GitLab without `api_token`."""
        return self.rest(name) if name in self._tokens else None

    async def _open(self, way: _Way, gitlab: GitLabSettings, settings: Settings) -> GitLabCalls:
        machines = sum(pool.limit for pool in settings.pools)
        http = await self._stack.enter_async_context(
            new_http(
                ca_file=gitlab.ca_file,
                proxy=way.proxy,
                max_connections=2 * machines + _SPARE_CONNECTIONS,
                heard=partial(self._heard, gitlab.name),
            )
        )
        return GitLabCalls(
            asks=RunnerClient(way.url, http, count=self._count),
            jobs=JobClient(way.url, http, count=self._count),
            runners=RunnersClient(way.url, http, count=self._count),
        )


def _content(gitlab: GitLabSettings) -> bytes | None:
    if gitlab.ca_file is None:
        return None
    try:
        return Path(gitlab.ca_file).read_bytes()
    except OSError as error:
        raise SettingsError(
            f"gitlab {gitlab.name}: cannot read ca_file {gitlab.ca_file}: {error.strerror}",
            remedy="Give a readable PEM file with at least one certificate",
        ) from error
