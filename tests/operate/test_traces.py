"""Traces: a job is one trace, nothing is lost while the collector is away, and no secret is in it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable

import pytest
import structlog
from pydantic import ValidationError

from firerunner.images import Image
from firerunner.settings import Settings
from firerunner.telemetry import otlp
from firerunner.telemetry.otlp import Otlp
from firerunner.telemetry.spans import Span, trace_number
from tests.operate.collector import collecting
from tests.scene.controllers import scene

pytestmark = pytest.mark.anyio


def test_without_an_endpoint_the_sdk_is_not_even_read() -> None:
    look = (
        "import firerunner.service, sys; print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
    )

    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not look():
            await asyncio.sleep(0.02)


async def test_a_job_of_a_real_run_is_one_trace(image: Image) -> None:
    async with (
        collecting(503, 429) as collector,
        scene(None, image, 1, more={"telemetry": {"traces": {"endpoint": collector.url}}}) as it,
    ):
        await it.start_all()
        (job,) = await it.run_jobs(1)
        await it.ended([job])
        await it.until(lambda: bool(collector.named("job")))
        tokens = [job.token, *it.vmm.credentials]

    (root,) = collector.named("job")
    number = trace_number("gitlab", job.id).to_bytes(16, "big")
    of_job = [span for span in collector.spans if span.trace_id == number]
    assert collector.spans == of_job
    assert root.parent_span_id == b""
    assert {span.parent_span_id for span in of_job if span is not root} == {root.span_id}
    assert len({span.span_id for span in of_job}) == len(of_job)
    assert all(root.start_time_unix_nano <= span.start_time_unix_nano for span in of_job)
    assert {span.name for span in of_job} >= {
        "ask",
        "GitLab ask",
        "driver create",
        "machine creating",
        "job assigned",
        "GitLab job_update",
        "GitLab job_trace",
        "job running",
        "driver destroy",
        "GitLab manager_delete",
        "machine retiring",
    }
    told = {each.key: each.value for each in root.attributes}
    assert told["firerunner.job.status"].string_value == "success"
    assert told["firerunner.project"].string_value == "demo/app"
    assert set(collector.paths) == {"/v1/traces"}
    assert not any(token.encode() in body for token in tokens for body in collector.bodies)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "GATHER_S", 0.0)
    monkeypatch.setattr(otlp, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(otlp, "LONGEST_PAUSE_S", 0.02)


def a_span(job_id: int) -> Span:
    return Span("gitlab", job_id, "job", 100.0, 101.0, is_root=True)


class Sending:
    """An `Otlp` that runs, and how many spans it has said to be lost."""

    def __init__(self, url: str) -> None:
        self.lost = 0
        self.otlp = Otlp(url, "here-1", self._dropped, structlog.get_logger())
        self.task = asyncio.create_task(self.otlp.run())

    def _dropped(self, spans: int) -> None:
        self.lost += spans

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.mark.usefixtures("quick")
async def test_what_is_not_taken_is_sent_again_in_order_and_none_is_lost() -> None:
    async with collecting(503, 503, 502) as collector:
        sending = Sending(collector.url)
        for job_id in range(1200):
            sending.otlp.add(a_span(job_id))
        await until(lambda: len(collector.spans) == 1200)
        await sending.stop()

    assert [span.trace_id for span in collector.spans] == [
        trace_number("gitlab", job_id).to_bytes(16, "big") for job_id in range(1200)
    ]
    assert sending.lost == 0


@pytest.mark.usefixtures("quick")
async def test_while_nobody_is_there_the_newest_are_kept_and_the_lost_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(otlp, "WAITING", 10)
    async with collecting() as gone:
        url = gone.url
    sending = Sending(url)

    for job_id in range(25):
        sending.otlp.add(a_span(job_id))
        await asyncio.sleep(0)
    await sending.stop()

    assert sending.lost == 15


@pytest.mark.usefixtures("quick")
async def test_spans_that_the_collector_refuses_for_good_do_not_stand_in_the_way() -> None:
    async with collecting(400) as collector:
        sending = Sending(collector.url)
        sending.otlp.add(a_span(1))
        await until(lambda: sending.lost == 1)
        sending.otlp.add(a_span(2))
        await until(lambda: len(collector.spans) == 1)
        await sending.stop()


async def test_a_stop_sends_what_is_left() -> None:
    async with collecting() as collector:
        sending = Sending(collector.url)
        sending.otlp.add(a_span(1))
        await asyncio.sleep(0)
        await sending.stop()

        assert len(collector.spans) == 1


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("collector:4318", "expected http"),
        ("http://user:secret@collector:4318", "no user"),
        ("http://collector:4318/v1/traces", "before /v1/traces"),
    ],
)
def test_a_mistaken_endpoint_is_named(endpoint: str, expected: str) -> None:
    pool = {"name": "x", "image": "default", "runner_token": "glrt-x"}
    with pytest.raises(ValidationError, match=expected):
        Settings.model_validate(
            {
                "gitlab": {"url": "https://gitlab.example.com"},
                "pools": [pool],
                "telemetry": {"traces": {"endpoint": endpoint}},
            }
        )
