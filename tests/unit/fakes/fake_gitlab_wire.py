"""The runner protocol and the REST API in a few words, over real HTTP."""

from __future__ import annotations

from typing import Any

import httpx

from firerunner.fakes.gitlab import FakeGitLab

FEATURES = {"cancel_gracefully": True, "return_exit_code": True, "upload_multiple_artifacts": True}
ONE_JOB = "only:\n  script: [echo hi]\n"


class Wire:
    """One client of one fake GitLab."""

    def __init__(self, gitlab: FakeGitLab, client: httpx.AsyncClient) -> None:
        self.gitlab = gitlab
        self.client = client
        self.as_user = {"PRIVATE-TOKEN": gitlab.api_token}

    async def ask(self, token: str, system_id: str = "s_1", **body: Any) -> httpx.Response:
        info = {"name": "gitlab-runner", "version": "19.4.0", "features": FEATURES}
        return await self.client.post(
            "/jobs/request", json={"token": token, "system_id": system_id, "info": info, **body}
        )

    async def put(self, job: dict[str, Any], state: str, **body: Any) -> httpx.Response:
        return await self.client.put(
            f"/jobs/{job['id']}", json={"token": job["token"], "state": state, **body}
        )

    async def patch(self, job: dict[str, Any], content: bytes, start: int) -> httpx.Response:
        headers = {"JOB-TOKEN": job["token"], "Content-Range": f"{start}-{start + len(content) - 1}"}
        return await self.client.patch(f"/jobs/{job['id']}/trace", content=content, headers=headers)

    async def get(self, path: str, **query: Any) -> httpx.Response:
        return await self.client.get(path, params=query, headers=self.as_user)

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.client.post(path, json=body, headers=self.as_user)
