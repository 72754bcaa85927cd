"""The few calls of GitLab's REST API that control needs, over the simulation's wires: no threads."""

from __future__ import annotations

from typing import Any

import httpx

from firerunner.errors import CallRefused, Unreachable
from firerunner.gitlab import RunnersJob

API = "http://gitlab/api/v4"


class SimRest:
    """As `firerunner.gitlab.RestClient`, as far as `control.lost` goes."""

    def __init__(self, http: httpx.AsyncClient, token: str) -> None:
        self._http = http
        self._headers = {"PRIVATE-TOKEN": token}

    async def _call(self, method: str, path: str, **said: Any) -> Any:
        try:
            answer = await self._http.request(method, f"{API}{path}", headers=self._headers, **said)
        except httpx.HTTPError as error:
            raise Unreachable(f"{method} {path}: {error}") from error
        if answer.status_code in {429, 500, 502}:
            raise Unreachable(f"{method} {path}: {answer.status_code}")
        if answer.status_code >= 400:
            raise CallRefused(f"{method} {path}: {answer.status_code}", status=answer.status_code)
        return answer.json() if answer.content else None

    async def runner_of(self, runner_token: str) -> int | None:
        """The runner's id."""
        said = {"token": runner_token, "system_id": "s_verify"}
        found = await self._call("POST", "/runners/verify", json=said)
        try:
            await self._call("DELETE", "/runners/managers", json=said)
        except CallRefused as error:
            if error.status != 404:
                raise
        return int(found["id"])

    async def jobs_of(self, runner_id: int, system_id: str) -> list[RunnersJob]:
        """Of this id."""
        query = {"system_id": system_id}
        found = await self._call("GET", f"/runners/{runner_id}/jobs", params=query)
        return [RunnersJob(job["id"], job["project"]["id"], job["status"]) for job in found]

    async def cancel_job(self, project_id: int, job_id: int, *, force: bool = False) -> str:
        """Its status afterwards."""
        said = {"force": True} if force else {}
        return str(
            (await self._call("POST", f"/projects/{project_id}/jobs/{job_id}/cancel", json=said))["status"]
        )

    async def retry_job(self, project_id: int, job_id: int) -> int:
        """The new one's id."""
        return int((await self._call("POST", f"/projects/{project_id}/jobs/{job_id}/retry", json={}))["id"])
