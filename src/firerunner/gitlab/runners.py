"""Calls in the name of a runner about itself: is its token good, and away with a manager record.

Facts from Rails lib/api/ci/runner.rb and lib/api/ci/helpers/runner.rb:

- `DELETE /runners/managers` does not make a manager record; 404 means that there is none of that
  `system_id`, 403 that the token is not known.
- `POST /runners/verify` makes one like every authenticated call: with a `system_id` one of that id,
  **without one a record named `<legacy>`**, made once per runner and found again by each later call.
  `delete_manager(token, LEGACY_SYSTEM_ID)` removes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import httpx

from firerunner.errors import BadAnswer, TokenRefused
from firerunner.gitlab.wire import Wire, is_web_page, message_of

LEGACY_SYSTEM_ID: Final = "<legacy>"
"""The `system_id` of the manager record that GitLab makes for calls that name none."""


class ManagerRemoval(StrEnum):
    """How the removal of a manager record went. All three mean: nothing is left to do here."""

    DELETED = "deleted"  # 204: it was there, and is no more.
    ABSENT = "absent"  # 404: GitLab has no such record.
    REFUSED = "refused"  # 401/403: the token is not known (any more); deleting a runner deletes its managers.


@dataclass(frozen=True, slots=True)
class RunnerIdentity:
    """Whose token it is. `runner_id` is None on servers that answer plain `200`."""

    runner_id: int | None
    token_expires_at: str | None


class RunnersClient(Wire):
    """Speaks with a runner token. Raises `Unreachable` as `JobClient` does."""

    async def delete_manager(self, runner_token: str, system_id: str, *, tries: int = 3) -> ManagerRemoval:
        """Remove the record that GitLab made for `system_id`. Repeating it does no harm.

        Raises `BadAnswer` for an answer that is none of 204, 401, 403 and 404.
        """
        response = await self.call(
            "delete_manager",
            "DELETE",
            "runners/managers",
            headers={"RUNNER-TOKEN": runner_token, "Accept": "application/json"},
            json={"token": runner_token, "system_id": system_id},
            tries=tries,
        )
        removal = {
            204: ManagerRemoval.DELETED,
            404: ManagerRemoval.ABSENT,
            403: ManagerRemoval.REFUSED,
            401: ManagerRemoval.REFUSED,
        }.get(response.status_code)
        if removal is None or is_web_page(response.headers):
            raise self._bad("delete_manager", response)
        if removal is not ManagerRemoval.DELETED:
            self.count("delete_manager", str(response.status_code))
        return removal

    async def verify(
        self,
        runner_token: str,
        system_id: str | None = None,
        info: Mapping[str, Any] | None = None,
        *,
        tries: int = 3,
    ) -> RunnerIdentity:
        """Is the token good? Leaves a manager record in GitLab: see the module's notes.

        Raises `TokenRefused` or `BadAnswer`.
        """
        body: dict[str, Any] = {"token": runner_token}
        if system_id is not None:
            body["system_id"] = system_id
        if info is not None:
            body["info"] = dict(info)
        response = await self.call(
            "verify",
            "POST",
            "runners/verify",
            headers={"RUNNER-TOKEN": runner_token, "Accept": "application/json"},
            json=body,
            tries=tries,
        )
        if response.status_code in {401, 403, 422}:
            self.count("verify", str(response.status_code))
            raise TokenRefused(
                f"GitLab at {self.base_url} refuses the runner token: {message_of(response)}",
                remedy="create the runner again in GitLab and give its new token",
            )
        if response.status_code != 200 or is_web_page(response.headers):
            raise self._bad("verify", response)
        return _identity(response)

    def _bad(self, activity: str, response: httpx.Response) -> BadAnswer:
        self.count(activity, str(response.status_code))
        return BadAnswer(
            f"GitLab at {self.base_url} answers {activity} with {message_of(response)}",
            remedy="check that the URL is that of a GitLab and that no proxy answers in its place",
        )


def _identity(response: httpx.Response) -> RunnerIdentity:
    try:
        said = response.json()
    except ValueError:
        said = None
    if not isinstance(said, dict):
        return RunnerIdentity(None, None)
    runner_id, expires = said.get("id"), said.get("token_expires_at")
    return RunnerIdentity(
        runner_id if isinstance(runner_id, int) else None, expires if isinstance(expires, str) else None
    )
