"""Calls in the name of a job that is ours: keep it alive, report it failed, tell its author why.

Source of the statuses: Rails lib/api/ci/runner.rb and gitlab-runner network/gitlab.go.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import httpx
from yarl import URL

from firerunner.errors import GitLabError
from firerunner.gitlab.carrying import Http, Incoming, Outgoing, RawHeaders
from firerunner.gitlab.wire import Wire, is_web_page, message_of

GONE: Final = frozenset({403, 404})
"""How GitLab says that a job is not, or no longer, ours to speak about."""

MAX_TRACE_BYTES = 64 * 1024


class JobStatus(StrEnum):
    """The values of `Job-Status` that change what we do (gitlab-runner remote_job_state_response.go)."""

    CANCELING = "canceling"  # someone cancels: the script is to be stopped, after_script still runs.
    CANCELED = "canceled"  # it is over: stop at once.
    FAILED = "failed"  # GitLab itself has failed it: stop at once.


@dataclass(frozen=True, slots=True)
class JobReply:
    """What GitLab said to a job call. Neither accepted nor gone: `trouble` says what it was."""

    accepted: bool
    gone: bool
    status: int
    job_status: str | None = None
    update_interval_s: float | None = None
    trouble: str = ""

    @property
    def over(self) -> bool:
        """True if the job has ended in GitLab, so that nothing must be run for it any more."""
        return self.gone or self.job_status in {JobStatus.CANCELED, JobStatus.FAILED}


def read_reply(status: int, headers: Mapping[str, str], trouble: str = "") -> JobReply:
    """Judge a response by status and headers; a web page is no word of GitLab's.

    `trouble` is what to say if it is neither an acceptance nor the job's end.
    """
    accepted = status in {200, 202} and not is_web_page(headers)
    gone = status in GONE and not is_web_page(headers)
    interval = headers.get("X-GitLab-Trace-Update-Interval", "")
    return JobReply(
        accepted=accepted,
        gone=gone,
        status=status,
        job_status=headers.get("Job-Status"),
        update_interval_s=float(interval) if interval.isascii() and interval.isdigit() else None,
        trouble="" if accepted or gone else trouble or str(status),
    )


class JobClient(Wire):
    """Speaks with a job's own token; and passes on what its guest says.

    All raise `Unreachable` (with `retry_after_s` where GitLab gave one) for 408, 429, 5xx and
    transport errors, after the tries they were given; each of these is counted.
    """

    http: Http

    def __init__(self, base_url: str, http: Http, **options: Any) -> None:
        super().__init__(base_url, http, **options)

    async def carry(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: RawHeaders,
        body: bytes | AsyncIterator[bytes] | None,
        timeout: httpx.Timeout,
    ) -> Incoming:
        """A guest's call, in its own words, and what GitLab says to it. Raises httpx's errors."""
        url = self.url(path)
        if query:
            url = f"{url}?{query.decode('latin-1').replace('#', '%23')}"
        return await self.http.carrier.carry(Outgoing(method, URL(url, encoded=True), headers, body, timeout))

    async def keep(self, job_id: int, job_token: str, *, tries: int = 1) -> JobReply:
        """`PUT state=running`: keeps the job from being taken for stuck, and shows a cancel."""
        return await self._put("keep", job_id, job_token, {"state": "running"}, tries)

    async def fail(
        self,
        job_id: int,
        job_token: str,
        reason: str = "runner_system_failure",
        exit_code: int | None = None,
        *,
        tries: int = 4,
    ) -> JobReply:
        """`PUT state=failed`. A job that is `canceling` becomes `canceled` by it.

        `gone` after a try whose answer was lost may well mean that the lost one had been accepted.
        """
        said: dict[str, Any] = {"state": "failed", "failure_reason": reason}
        if exit_code is not None:
            said["exit_code"] = exit_code
        return await self._put("fail", job_id, job_token, said, tries)

    async def _put(
        self, activity: str, job_id: int, job_token: str, said: dict[str, Any], tries: int
    ) -> JobReply:
        response = await self.call(
            activity,
            "PUT",
            f"jobs/{job_id}",
            headers={"JOB-TOKEN": job_token, "Accept": "application/json"},
            json={"token": job_token, **said},
            tries=tries,
        )
        reply = read_reply(response.status_code, response.headers, message_of(response))
        if not reply.accepted:
            self.count(activity, str(reply.status))
        return reply

    async def append_trace(self, job_id: int, job_token: str, offset: int | None, text: str) -> bool:
        """Add `text` to the job's log so that its author sees why. True if GitLab has it.

        Best effort, never raises. `offset` is the log's length in bytes as we know it; if it is None
        or wrong, GitLab's 416 tells the true one and the text is sent there, once.
        """
        content = text.encode()[:MAX_TRACE_BYTES]
        if not content:
            return False
        try:
            response = await self._patch(job_id, job_token, offset or 0, content)
            if response.status_code == 416:
                size = trace_size(response.headers.get("Range"))
                if size is None:
                    return False
                response = await self._patch(job_id, job_token, size, content)
        except GitLabError:
            return False
        if response.status_code != 202:
            self.count("trace", str(response.status_code))
        return response.status_code == 202

    async def _patch(self, job_id: int, job_token: str, offset: int, content: bytes) -> httpx.Response:
        return await self.call(
            "trace",
            "PATCH",
            f"jobs/{job_id}/trace",
            headers={
                "JOB-TOKEN": job_token,
                "Content-Type": "text/plain",
                "Content-Range": f"{offset}-{offset + len(content) - 1}",
            },
            content=content,
            tries=2,
        )


def trace_size(range_header: str | None) -> int | None:
    """The log's length out of `Range: 0-<size>`, which is how GitLab tells it, or None."""
    first, dash, size = (range_header or "").partition("-")
    return int(size[:18]) if dash and first == "0" and size.isascii() and size.isdigit() else None
