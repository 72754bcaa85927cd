"""Webhooks: body, headers, signature, and everything that goes wrong with them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fake_gitlab_wire import Wire

from firerunner.fakes.gitlab import FakeGitLab, HeldClock, Project

pytestmark = pytest.mark.anyio

CI = "hooked:\n  tags: [vm]\n  script: [x]\n"


@dataclass
class Inbox:
    """A minimal HTTP server that keeps what it gets and answers with `status`."""

    url: str = ""
    status: int = 200
    heads: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def statuses(self) -> list[str]:
        return [json.loads(body)["build_status"] for body in self.bodies]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = dict(line.split(": ", 1) for line in head)
        lowered = {name.lower(): value for name, value in headers.items()}
        self.heads.append(lowered)
        self.bodies.append(await reader.readexactly(int(lowered["content-length"])))
        writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    inbox = Inbox()
    server = await asyncio.start_server(inbox.serve, "127.0.0.1", 0)
    async with server:
        inbox.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/webhook"
        yield inbox


@pytest.fixture
async def project(gitlab: FakeGitLab) -> Project:
    return await gitlab.add_project("group/sample", {".gitlab-ci.yml": CI})


async def test_each_transition_is_told_in_order_but_not_canceling(
    gitlab: FakeGitLab, wire: Wire, project: Project, inbox: Inbox
) -> None:
    gitlab.add_hook(project, inbox.url)
    await gitlab.run_pipeline(project)
    job = (await wire.ask(gitlab.add_runner(["vm"]))).json()
    gitlab.cancel(gitlab.job("hooked"))
    await wire.put(job, "failed")
    await gitlab.hooks.idle()
    assert inbox.statuses() == ["created", "pending", "running", "canceled"]


async def test_skipped_jobs_are_not_told(gitlab: FakeGitLab, inbox: Inbox) -> None:
    ci = "stages: [one, two]\na: {stage: one, script: [x]}\nb: {stage: two, script: [x]}\n"
    project = await gitlab.add_project("group/staged", {".gitlab-ci.yml": ci})
    gitlab.add_hook(project, inbox.url)
    await gitlab.run_pipeline(project)
    gitlab.cancel(gitlab.job("a"))
    skipped = gitlab.job("b").status
    gitlab.retry(gitlab.job("a"))
    await gitlab.hooks.idle()
    assert skipped == "skipped"
    assert inbox.statuses() == ["created", "created", "pending", "canceled", "created", "pending"]


async def test_the_body_has_no_job_tags_and_no_runner_while_pending(
    gitlab: FakeGitLab, wire: Wire, project: Project, inbox: Inbox
) -> None:
    gitlab.add_hook(project, inbox.url)
    await gitlab.run_pipeline(project)
    await wire.ask(gitlab.add_runner(["vm", "other"]))
    await gitlab.hooks.idle()
    _, pending, running = (json.loads(body) for body in inbox.bodies)
    assert (pending["object_kind"], pending["build_name"], pending["project_id"]) == (
        "build",
        "hooked",
        project.id,
    )
    assert (pending["runner"], pending["tag"], pending["build_failure_reason"]) == (
        None,
        False,
        "unknown_failure",
    )
    assert not {"tag_list", "build_tags", "tags"} & pending.keys()
    assert running["runner"]["tags"] == ["other", "vm"]
    assert pending["commit"]["id"] == pending["pipeline_id"]


@pytest.mark.parametrize(
    ("form", "shown"), [("utc", "2026-01-01 00:00:00 UTC"), ("iso", "2026-01-01T00:00:00.000Z")]
)
async def test_both_time_formats(
    gitlab: FakeGitLab, project: Project, inbox: Inbox, form: str, shown: str
) -> None:
    gitlab.behaviour.hook_time_format = form
    gitlab.add_hook(project, inbox.url)
    await gitlab.run_pipeline(project)
    await gitlab.hooks.idle()
    body = json.loads(inbox.bodies[0])
    assert (body["build_created_at"], body["build_started_at"]) == (shown, None)
    assert body["build_created_at_iso"] == "2026-01-01T00:00:00.000Z"


async def test_headers(gitlab: FakeGitLab, project: Project, inbox: Inbox) -> None:
    gitlab.add_hook(project, inbox.url, token="secret")
    await gitlab.run_pipeline(project)
    await gitlab.hooks.idle()
    head = inbox.heads[0]
    assert (head["x-gitlab-event"], head["x-gitlab-token"]) == ("Job Hook", "secret")
    assert (head["content-type"], head["user-agent"]) == ("application/json", "GitLab/19.4.0")
    assert head["x-gitlab-instance"] == gitlab.url
    assert re.fullmatch(r"[0-9a-f-]{36}", head["idempotency-key"])
    assert "webhook-signature" not in head


async def test_the_signature_is_that_of_standard_webhooks(
    gitlab: FakeGitLab, project: Project, inbox: Inbox, clock: HeldClock
) -> None:
    key = bytes(range(32))
    gitlab.add_hook(project, inbox.url, signing_token=f"whsec_{base64.b64encode(key).decode()}")
    await gitlab.run_pipeline(project)
    await gitlab.hooks.idle()
    head, body = inbox.heads[0], inbox.bodies[0]
    signed = b".".join([head["idempotency-key"].encode(), str(int(clock.now)).encode(), body])
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert head["webhook-id"] == head["idempotency-key"]
    assert head["webhook-timestamp"] == str(int(clock.now))
    assert head["webhook-signature"] == f"v1,{expected}"
    assert "x-gitlab-token" not in head


def test_the_published_example_of_standard_webhooks_is_met() -> None:
    from firerunner.fakes.gitlab.webhooks import signature_headers

    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signature_headers(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("token", ["secret", "whsec_short", "whsec_c2hvcnQ="])
async def test_a_signing_token_of_another_form_is_refused(
    gitlab: FakeGitLab, project: Project, token: str
) -> None:
    with pytest.raises(ValueError, match=r"."):
        gitlab.add_hook(project, "http://127.0.0.1/", signing_token=token)


async def test_doubles_share_a_key_and_differ_in_their_uuid(
    gitlab: FakeGitLab, project: Project, inbox: Inbox
) -> None:
    gitlab.hooks.copies = 2
    gitlab.add_hook(project, inbox.url)
    await gitlab.run_pipeline(project)
    await gitlab.hooks.idle()
    one, two = inbox.heads[:2]
    assert inbox.statuses() == ["created", "created", "pending", "pending"]
    assert one["idempotency-key"] == two["idempotency-key"]
    assert one["x-gitlab-webhook-uuid"] != two["x-gitlab-webhook-uuid"]


async def test_order_can_be_turned_around(gitlab: FakeGitLab, project: Project, inbox: Inbox) -> None:
    gitlab.add_hook(project, inbox.url)
    gitlab.hooks.hold()
    await gitlab.run_pipeline(project)
    gitlab.hooks.release(backwards=True)
    await gitlab.hooks.idle()
    assert inbox.statuses() == ["pending", "created"]


async def test_hooks_of_a_job_can_be_lost(gitlab: FakeGitLab, project: Project, inbox: Inbox) -> None:
    gitlab.add_hook(project, inbox.url)
    gitlab.drop_hooks_for("hooked")
    await gitlab.run_pipeline(project)
    await gitlab.hooks.idle()
    assert inbox.bodies == []
    assert [delivery.outcome for delivery in gitlab.hooks.deliveries] == ["dropped", "dropped"]


async def test_a_failing_hook_is_off_from_the_fourth_failure_and_nothing_is_repeated(
    gitlab: FakeGitLab, project: Project, inbox: Inbox, clock: HeldClock
) -> None:
    hook = gitlab.add_hook(project, inbox.url)
    inbox.status = 500
    for _ in range(3):
        await gitlab.run_pipeline(project)
    await gitlab.hooks.idle()
    while_off = len(inbox.bodies)
    clock.advance(61)
    await gitlab.run_pipeline(project)
    await gitlab.hooks.idle()
    after_a_minute = len(inbox.bodies)
    inbox.status = 204
    clock.advance(121)
    await gitlab.run_pipeline(project)
    await gitlab.hooks.idle()
    assert (while_off, after_a_minute, len(inbox.bodies), hook.failures) == (4, 5, 7, 0)


async def test_the_fortieth_failure_ends_a_hook(
    gitlab: FakeGitLab, project: Project, clock: HeldClock
) -> None:
    hook = gitlab.add_hook(project, "http://127.0.0.1:1/")
    hook.failures = 39
    await gitlab.run_pipeline(project)
    await gitlab.hooks.idle()
    clock.advance(10 * 86400)
    await gitlab.run_pipeline(project)
    await gitlab.hooks.idle()
    assert [delivery.outcome for delivery in gitlab.hooks.deliveries] == ["failed", "off", "off", "off"]


async def test_a_redirect_counts_as_delivered(gitlab: FakeGitLab, project: Project, inbox: Inbox) -> None:
    inbox.status = 302
    hook = gitlab.add_hook(project, inbox.url)
    await gitlab.run_pipeline(project)
    await gitlab.hooks.idle()
    assert hook.failures == 0


async def test_pipeline_events_carry_builds_without_tags(
    gitlab: FakeGitLab, project: Project, inbox: Inbox
) -> None:
    gitlab.add_hook(project, inbox.url, job_events=False, pipeline_events=True)
    await gitlab.run_pipeline(project)
    await gitlab.hooks.idle()
    body: dict[str, Any] = json.loads(inbox.bodies[-1])
    assert (body["object_kind"], body["builds"][0]["name"]) == ("pipeline", "hooked")
    assert "tag_list" not in body["builds"][0]


async def test_hooks_over_rest_never_show_their_secrets(
    gitlab: FakeGitLab, wire: Wire, project: Project
) -> None:
    signing = f"whsec_{base64.b64encode(bytes(32)).decode()}"
    made = await wire.post(
        f"/projects/{project.id}/hooks", url="http://h/", token="s", signing_token=signing, job_events=True
    )
    listed = await wire.get(f"/projects/{project.id}/hooks")
    bad = await wire.post(f"/projects/{project.id}/hooks", url="http://h/", signing_token="x")
    deleted = await wire.client.delete(
        f"/projects/{project.id}/hooks/{made.json()['id']}", headers=wire.as_user
    )
    assert (made.status_code, bad.status_code, deleted.status_code) == (201, 400, 204)
    assert (listed.json()[0]["token_present"], listed.json()[0]["signing_token_present"]) == (True, True)
    assert signing not in listed.text
    assert gitlab.world.hooks == {}
