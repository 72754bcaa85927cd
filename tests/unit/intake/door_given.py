"""Givens for the tests of the webhook's door: the door in its application, and GitLab's own samples.

The samples have the fields of GitLab's documentation ("Webhook events": Job events, Pipeline events).
"""

from __future__ import annotations

import base64
import datetime
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import SecretStr
from standardwebhooks import Webhook

from firerunner.intake import Door, Hook
from firerunner.settings import GitLabSettings, WebhookSettings
from firerunner.telemetry import Metrics
from firerunner.web import create_web

SECRET = {"X-Gitlab-Token": "s3cret"}
SIGNING = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SIGNING = "whsec_" + base64.b64encode(bytes(32)).decode()
PROJECT = {
    "id": 380,
    "name": "Sample",
    "description": "",
    "web_url": "https://gitlab.example.com/group/sample",
    "avatar_url": None,
    "git_ssh_url": "git@gitlab.example.com:group/sample.git",
    "git_http_url": "https://gitlab.example.com/group/sample.git",
    "namespace": "Group",
    "visibility_level": 20,
    "path_with_namespace": "group/sample",
    "default_branch": "main",
    "ci_config_path": "",
}
USER = {"id": 3, "name": "User", "username": "user", "avatar_url": None, "email": "[REDACTED]"}
RUNNER = {
    "active": True,
    "runner_type": "project_type",
    "is_shared": False,
    "id": 380987,
    "description": "small",
    "tags": ["linux", "docker"],
}
JOB_HOOK = {
    "object_kind": "build",
    "ref": "gitlab-script-trigger",
    "tag": False,
    "before_sha": "0" * 40,
    "sha": "2293ada6b400935a1378653304eaf6221e0fdb8f",
    "build_id": 1977,
    "build_name": "test",
    "build_stage": "test",
    "build_status": "created",
    "build_created_at": "2021-02-23T02:41:37.886Z",
    "build_created_at_iso": "2021-02-23T02:41:37Z",
    "build_started_at": None,
    "build_started_at_iso": None,
    "build_finished_at": None,
    "build_finished_at_iso": None,
    "build_duration": None,
    "build_queued_duration": 1095.588715,
    "build_allow_failure": False,
    "build_failure_reason": "script_failure",
    "retries_count": 2,
    "pipeline_id": 2366,
    "project_id": 380,
    "project_name": "Group / Sample",
    "user": USER,
    "commit": {"id": 2366, "name": "Build pipeline", "sha": "2293ada6", "message": "test\n"},
    "repository": {"name": "sample", "homepage": PROJECT["web_url"], "visibility_level": 20},
    "project": PROJECT,
    "runner": RUNNER,
    "environment": None,
    "source_pipeline": {
        "project": {"id": 41, "web_url": "https://gitlab.example.com/up", "path_with_namespace": "up"},
        "pipeline_id": 30,
        "job_id": 3401,
    },
}
PIPELINE_HOOK = {
    "object_kind": "pipeline",
    "object_attributes": {
        "id": 31,
        "iid": 3,
        "name": "Pipeline for branch: main",
        "ref": "main",
        "tag": False,
        "sha": "bcbb5ec396a2c0f828686f14fac9b80b780504f2",
        "before_sha": "bcbb5ec396a2c0f828686f14fac9b80b780504f2",
        "source": "merge_request_event",
        "status": "pending",
        "detailed_status": "pending",
        "stages": ["build", "test", "deploy"],
        "created_at": "2016-08-12 15:23:28 UTC",
        "finished_at": None,
        "duration": None,
        "variables": [{"key": "NESTOR_PROD_ENVIRONMENT", "value": "us-west-1"}],
        "url": "https://gitlab.example.com/group/sample/-/pipelines/31",
    },
    "merge_request": None,
    "user": USER,
    "project": PROJECT,
    "commit": {"id": "bcbb5ec396a2c0f828686f14fac9b80b780504f2", "message": "test\n"},
    "source_pipeline": {"project": {"id": 41}, "pipeline_id": 30, "job_id": 3401},
    "builds": [
        {
            "id": 380,
            "stage": "deploy",
            "name": "production",
            "status": "skipped",
            "when": "manual",
            "manual": True,
            "runner": None,
            "artifacts_file": {"filename": None, "size": None},
            "environment": {"name": "production", "action": "start", "deployment_tier": "production"},
        }
    ],
}


def gitlab(name: str = "gitlab", **keys: str) -> GitLabSettings:
    """A GitLab whose hooks are known by these; without any, by nothing."""
    secrets: dict[str, Any] = {f"webhook_{key}": SecretStr(value) for key, value in keys.items()}
    return GitLabSettings(name=name, url="https://gitlab.example.com", **secrets)


def signature(
    body: bytes, *, key: str = SIGNING, webhook_id: str = "5f6bc3e2-0001", at: float | None = None
) -> dict[str, str]:
    """The headers of a signed hook, made by the library as GitLab makes them."""
    seconds = int(time.time() if at is None else at)
    made = Webhook(key).sign(
        webhook_id, datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC), body.decode()
    )
    return {"webhook-id": webhook_id, "webhook-timestamp": str(seconds), "webhook-signature": made}


@dataclass
class Given:
    """The real application with lists where the wake-ups and the words for the metrics arrive."""

    wake: Callable[[Hook], None] | None = None
    woken: list[Hook] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.door = Door(self.wake or self.woken.append, self.counted.append)
        self.app = create_web(self.door.endpoint, _never_asked, Metrics())

    def configure(self, *gitlabs: GitLabSettings, **webhook: Any) -> None:
        self.door.configure(WebhookSettings(**webhook), gitlabs)

    async def post(
        self,
        body: Any = JOB_HOOK,
        headers: dict[str, str] | Sequence[tuple[str, str]] | Sequence[tuple[bytes, bytes]] = (),
        *,
        peer: str = "192.0.2.1",
        method: str = "POST",
    ) -> httpx.Response:
        """One request from `peer`. What is not bytes is sent as JSON."""
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        transport = httpx.ASGITransport(self.app, client=(peer, 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://door") as http:
            return await http.request(method, "/webhook", content=content, headers=httpx.Headers(headers))


async def _never_asked() -> Any:
    raise AssertionError("readiness is no matter of the door")
