"""One REST call in a user's name: in a thread, through python-gitlab, failures told apart as everywhere."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import gitlab
import requests
from gitlab.exceptions import GitlabAuthenticationError, GitlabHttpError, GitlabParsingError, RedirectError

from firerunner.errors import BadAnswer, CallRefused, GitLabError, TokenRefused, Unreachable
from firerunner.gitlab.backoff import retry_after_s, wait_s
from firerunner.gitlab.http import READ_TIMEOUT_S, USER_AGENT
from firerunner.gitlab.measured import Call, Heard, unheard, whole
from firerunner.gitlab.rest_session import new_session
from firerunner.gitlab.wire import MAX_MESSAGE_CHARS, MAX_WAIT_S, is_retriable
from firerunner.hiding import without

PAGE = 100
"""GitLab's largest page."""

T = TypeVar("T")


class RestCalls:
    """GitLab's API at `base_url` with a user's token. One call at a time: the session is not for several.

    Close it with `aclose()`. Raises `SettingsError` for a CA file that cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        ca_file: Path | None = None,
        proxy: str | None = None,
        heard: Heard = unheard,
    ) -> None:
        self._heard = heard
        self.base_url = base_url.rstrip("/")
        self._session = new_session(ca_file=ca_file, proxy=proxy)
        self._session.hooks["response"] = [self._remember]
        self._headers: Mapping[str, str] = {}
        self._began = 0.0
        self._token = token
        self._shown: tuple[str | None, ...] = (token,)
        self._lock = asyncio.Lock()
        self._gitlab = gitlab.Gitlab(
            self.base_url,
            private_token=token,
            timeout=READ_TIMEOUT_S,
            user_agent=USER_AGENT,
            keep_base_url=True,  # an address in `Link` that is not ours would get the token
            session=self._session,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await asyncio.to_thread(self._session.close)

    async def get(self, path: str, *, tries: int = 3, **query: Any) -> dict[str, Any]:
        """One object. All calls raise what is said in `_told_apart`."""
        return await self._object(
            path, lambda: self._gitlab.http_get(path, query_data=query, obey_rate_limit=False), tries
        )

    async def list(self, path: str, *, at_most: int, tries: int = 3, **query: Any) -> list[dict[str, Any]]:
        """The first `at_most` of a list."""

        def read() -> list[dict[str, Any]]:
            asked = {"per_page": PAGE, **query}
            pages = self._gitlab.http_list(path, query_data=asked, iterator=True, obey_rate_limit=False)
            return [item for _, item in zip(range(at_most), pages, strict=False)]

        return await self._call(path, read, tries)

    async def post(self, path: str, **said: Any) -> dict[str, Any]:
        """Never repeated: its effect may be there although its answer is not."""
        return await self._object(
            path,
            lambda: self._gitlab.http_post(path, post_data=said, obey_rate_limit=False),
            shown=said.get("token"),
        )

    async def put(self, path: str, **said: Any) -> dict[str, Any]:
        """Repeating it does no harm."""
        return await self._object(
            path, lambda: self._gitlab.http_put(path, post_data=said, obey_rate_limit=False), 3
        )

    async def delete(self, path: str, **said: Any) -> bool:
        """True if it was there. `said` goes into the body, where secrets belong."""
        try:
            await self._call(
                path,
                lambda: self._gitlab.http_request("delete", path, post_data=said, obey_rate_limit=False),
                3,
                shown=said.get("token"),
            )
        except CallRefused as error:
            if error.status == 404:
                return False
            raise
        return True

    async def _object(
        self,
        path: str,
        call: Callable[[], dict[str, Any] | requests.Response],
        tries: int = 1,
        *,
        shown: str | None = None,
    ) -> dict[str, Any]:
        said = await self._call(path, call, tries, shown=shown)
        if isinstance(said, requests.Response):
            raise self._no_api(path, f"{said.status_code} without JSON")
        return said

    async def _call(self, path: str, call: Callable[[], T], tries: int, *, shown: str | None = None) -> T:
        """`shown`: another token than ours that the call holds."""
        async with self._lock:
            self._shown = (self._token, shown)
            for attempt in range(1, tries + 1):
                try:
                    return await asyncio.to_thread(self._once, path, call)
                except Unreachable as error:
                    wish_s = error.retry_after_s
                    if attempt == tries or (wish_s is not None and wish_s > MAX_WAIT_S):
                        raise
                    jitter = random.random()  # noqa: S311 (spreads callers, guards nothing)
                    await asyncio.sleep(wait_s(attempt, wish_s, jitter=jitter, cap_s=MAX_WAIT_S))
        raise GitLabError("a call needs at least one try")

    def _once(self, path: str, call: Callable[[], T]) -> T:
        self._headers, self._began = {}, time.monotonic()
        with self._told_apart(path):
            return call()

    def _remember(self, response: requests.Response, *args: Any, **kwargs: Any) -> None:
        self._headers = headers = response.headers
        left, limit = whole(headers.get("RateLimit-Remaining")), whole(headers.get("RateLimit-Limit"))
        seconds = response.elapsed.total_seconds()
        self._heard(Call("rest", response.status_code, seconds, remaining=left, limit=limit))

    @contextmanager
    def _told_apart(self, path: str) -> Iterator[None]:
        """`TokenRefused` for 401, `CallRefused` for the other 4xx, `Unreachable` where it may go another
        time, `BadAnswer` for what is not GitLab's API."""
        try:
            yield
        except GitlabAuthenticationError as error:
            raise TokenRefused(
                f"GitLab at {self.base_url} refuses the API token: {self._text(error.error_message)}",
                remedy="Give a token that is valid and not expired",
            ) from error
        except GitlabHttpError as error:
            status = error.response_code or 0
            text = self._text(error.error_message)
            text = text if text.startswith(str(status)) else f"{status} {text}"
            message = f"GitLab at {self.base_url} answers {path} with {text}"
            if is_retriable(status):
                wish_s = retry_after_s(self._headers, time.time())
                raise Unreachable(
                    message, remedy="try again later; check GitLab's health", retry_after_s=wish_s
                ) from error
            raise CallRefused(message, status=status, remedy=_remedy(status)) from error
        except (GitlabParsingError, RedirectError, requests.exceptions.InvalidJSONError) as error:
            raise self._no_api(path, str(error)) from error
        except requests.exceptions.RequestException as error:
            self._heard(Call("rest", None, time.monotonic() - self._began))
            why = f"{type(error).__name__} {self._text(error)}"
            raise Unreachable(
                f"GitLab at {self.base_url} does not answer {path}: {why}",
                remedy="check the address, the network, `ca_file` and `proxy`",
            ) from error

    def _no_api(self, path: str, why: str) -> BadAnswer:
        return BadAnswer(
            f"what answers {path} at {self.base_url} is not GitLab's API: {self._text(why)}",
            remedy="check that the URL is that of a GitLab, with its sub-path if it has one",
        )

    def _text(self, said: object) -> str:
        return " ".join(without(str(said), self._shown).split())[:MAX_MESSAGE_CHARS]


def _remedy(status: int) -> str:
    return {
        403: "the token lacks a scope or its user a role: see docs/gitlab-setup.md",
        404: "it does not exist, or the token may not see it",
    }.get(status, "")
