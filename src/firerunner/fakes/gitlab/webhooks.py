"""Sends webhooks as Rails' `app/services/web_hook_service.rb` does, and worse on demand.

One delivery at a time per hook and in order, unless a test holds them back. Nothing is sent again after a
failure. From the 4th consecutive failure a hook is off for a minute, doubling up to a day; the 40th ends it
for good (`app/models/concerns/web_hooks/auto_disabling.rb`).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import httpx

from firerunner.fakes.gitlab.model import Hook, Job, JobStatus
from firerunner.fakes.gitlab.webhook_bodies import job_body, pipeline_body
from firerunner.fakes.gitlab.world import World

FAILURES_BEFORE_OFF = 4
FAILURES_BEFORE_END = 40
OFF_S = 60.0
OFF_MAX_S = 86_400.0
SILENT = frozenset({JobStatus.CANCELING, JobStatus.SKIPPED})
"""Transitions without a hook: Rails (`app/models/ci/build.rb`) sends one when a job is made, and when it
becomes pending, running, success, failed or canceled."""


@dataclass(slots=True)
class Delivery:
    """One event on its way to one hook, and what became of it."""

    hook_id: int
    event: str
    body: bytes
    idempotency_key: str
    subject: str
    status: str
    headers: dict[str, str] = field(default_factory=dict)
    answer: int | None = None
    said: str = ""
    """The answer's body."""
    error: str = ""
    outcome: str = "waiting"  # waiting, sent, failed, dropped, off


class WebHooks:
    """The sender. A test reads `deliveries` and turns the knobs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.deliveries: list[Delivery] = []
        self.copies = 1
        """How often each event is sent: the same `Idempotency-Key`, a new `X-Gitlab-Webhook-UUID`."""
        self.held: list[Delivery] | None = None
        self._dropped: list[re.Pattern[str]] = []
        self._queues: dict[int, deque[Delivery]] = {}
        self._senders: dict[int, asyncio.Task[None]] = {}
        self._client: httpx.AsyncClient | None = None
        world.job_listeners.append(self._job_changed)
        world.send_test = self._send_test

    def drop_for(self, job_name: str) -> None:
        """Lose every event of jobs of this name (of all its parallel parts)."""
        self._dropped.append(re.compile(re.escape(job_name) + r"( \d+/\d+)?"))

    def keep_all(self) -> None:
        """Lose nothing any more."""
        self._dropped.clear()

    def hold(self) -> None:
        """Keep events back until `release`."""
        self.held = self.held or []

    def release(self, *, backwards: bool = False) -> None:
        """Send what was held back, in order or newest first."""
        waiting, self.held = self.held or [], None
        for delivery in reversed(waiting) if backwards else waiting:
            self._send_soon(delivery)

    async def idle(self) -> None:
        """Return when nothing is on its way."""
        while busy := [task for task in self._senders.values() if not task.done()]:
            await asyncio.wait(busy)

    async def aclose(self) -> None:
        """Stop sending."""
        for task in self._senders.values():
            task.cancel()
        await asyncio.gather(*self._senders.values(), return_exceptions=True)
        if self._client:
            await self._client.aclose()

    def _job_changed(self, job: Job) -> None:
        reset = job.status is JobStatus.CREATED and len(job.timeline) > 1
        if job.status in SILENT or reset:
            return
        for hook in self._world.hooks.values():
            if not hook.hears(job.project):
                continue
            if hook.job_events:
                self._emit(hook, "Job Hook", job_body(self._world, job), job)
            if hook.pipeline_events:
                self._emit(hook, "Pipeline Hook", pipeline_body(self._world, job), job)

    def _emit(self, hook: Hook, event: str, body: dict[str, Any], job: Job) -> None:
        key = str(uuid.uuid4())
        raw = json.dumps(body).encode()
        for _ in range(self.copies):
            delivery = Delivery(hook.id, event, raw, key, job.name, job.status.value)
            self.deliveries.append(delivery)
            if any(pattern.fullmatch(job.name) for pattern in self._dropped):
                delivery.outcome = "dropped"
            elif self.held is not None:
                self.held.append(delivery)
            else:
                self._send_soon(delivery)

    async def _send_test(self, hook: Hook, trigger: str, job: Job) -> str | None:
        """Send at once, and wait (Rails `app/services/test_hooks`)."""
        if trigger == "pipeline_events":
            event, body = "Pipeline Hook", pipeline_body(self._world, job)
        else:
            event, body = "Job Hook", job_body(self._world, job)
        key = str(uuid.uuid4())
        delivery = Delivery(hook.id, event, json.dumps(body).encode(), key, job.name, job.status.value)
        self.deliveries.append(delivery)
        await self._deliver(hook, delivery)
        refusal = None if delivery.outcome == "sent" else f"{delivery.answer} {delivery.said}"
        return delivery.error or refusal

    def _send_soon(self, delivery: Delivery) -> None:
        self._queues.setdefault(delivery.hook_id, deque()).append(delivery)
        sender = self._senders.get(delivery.hook_id)
        if sender is None or sender.done():
            self._senders[delivery.hook_id] = asyncio.get_running_loop().create_task(
                self._work(delivery.hook_id)
            )

    async def _work(self, hook_id: int) -> None:
        queue = self._queues[hook_id]
        while queue:
            delivery = queue.popleft()
            hook = self._world.hooks.get(hook_id)
            if hook is None or self._is_off(hook):
                delivery.outcome = "off"
            else:
                await self._deliver(hook, delivery)
            self._world.changes.ring()

    async def _deliver(self, hook: Hook, delivery: Delivery) -> None:
        if self._client is None:
            self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False)
        delivery.headers = self._headers(hook, delivery)
        try:
            answer = await self._client.post(
                hook.url,
                content=delivery.body,
                headers=delivery.headers,
                timeout=self._world.behaviour.hook_timeout_s,
            )
        except httpx.HTTPError as error:
            delivery.error = f"{type(error).__name__}: {error}"
        else:
            delivery.answer, delivery.said = answer.status_code, answer.text
        worked = delivery.answer is not None and 200 <= delivery.answer < 400
        delivery.outcome = "sent" if worked else "failed"
        self._count(hook, worked)

    def _headers(self, hook: Hook, delivery: Delivery) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"GitLab/{self._world.behaviour.version}",
            "Idempotency-Key": delivery.idempotency_key,
            "X-Gitlab-Event": delivery.event,
            "X-Gitlab-Webhook-UUID": str(uuid.uuid4()),
            "X-Gitlab-Instance": self._world.external_url,
            "X-Gitlab-Event-UUID": str(uuid.uuid4()),
        }
        if hook.token is not None:
            headers["X-Gitlab-Token"] = hook.token
        if hook.signing_key is not None:
            headers |= signature_headers(
                hook.signing_key, delivery.idempotency_key, self._world.clock(), delivery.body
            )
        return headers

    def _is_off(self, hook: Hook) -> bool:
        if not self._world.behaviour.hook_auto_disable:
            return False
        return hook.failures >= FAILURES_BEFORE_END or self._world.clock() < hook.disabled_until

    def _count(self, hook: Hook, worked: bool) -> None:
        hook.failures = 0 if worked else hook.failures + 1
        if hook.failures >= FAILURES_BEFORE_OFF:
            off_s = min(OFF_MAX_S, OFF_S * 2 ** (hook.failures - FAILURES_BEFORE_OFF))
            hook.disabled_until = self._world.clock() + off_s


def signature_headers(key: bytes, message_id: str, now: float, body: bytes) -> dict[str, str]:
    """Standard Webhooks: HMAC-SHA256 over `id.timestamp.body` with the decoded key."""
    timestamp = str(int(now))
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signature}


def signing_key(token: str) -> bytes:
    """The key in a `whsec_` token: 32 bytes in standard base64. Raises `ValueError`."""
    prefix, _, encoded = token.partition("_")
    key = base64.b64decode(encoded, validate=True)
    if prefix != "whsec" or len(key) != 32:
        raise ValueError("a signing token is whsec_ and the base64 of 32 bytes")
    return key
