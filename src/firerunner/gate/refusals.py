"""Why the gate says no: one exception, one list of kinds, one form of answer."""

from __future__ import annotations

import json
import math
from enum import StrEnum
from http import HTTPStatus
from typing import Final


class Kind(StrEnum):
    """The kinds under which refusals are counted and journalled."""

    UNKNOWN_MACHINE = "unknown_machine"  # no such machine in the ledger, or it is gone.
    WRONG_CREDENTIAL = "wrong_credential"  # not this machine's credential.
    BEFORE_BOOT = "before_boot"  # it asks for a job without having said `booted`.
    SECOND_BOOT = "second_boot"  # the credential has been spent on a boot before.
    AFTER_END = "after_end"  # it speaks after it said `ended`.
    NO_JOB = "no_job"  # a job call, but the machine has been given no job.
    OTHER_JOB = "other_job"  # a job call about a job that is not this machine's.
    WRONG_TOKEN = "wrong_token"  # noqa: S105 (a kind, not a token): not the token of its job.
    NOT_A_DEPENDENCY = "not_a_dependency"  # artifacts of a job that its job does not depend on.
    JOB_OVER = "job_over"  # its job has ended; innocent if GitLab's last answer got lost.
    NOT_HELD = "not_held"  # it asks what to do while it is held, and is not; innocent when a hold ends.
    MALFORMED = "malformed"  # not what the protocol looks like.
    TOO_LARGE = "too_large"  # a body over the limit.
    TOO_SLOW = "too_slow"  # a body that does not come to its end.
    TOO_OFTEN = "too_often"  # more requests per second than allowed.
    CROWD = "crowd"  # more requests at once than allowed.
    NOT_FOUND = "not_found"  # a path that the gate does not serve.
    NOT_OFFERED = "not_offered"  # job router discovery: only with FF_USE_JOB_ROUTER.
    STARTING = "starting"  # the gate does not know the ledger yet, or is going down.
    UPSTREAM = "upstream"  # GitLab does not answer, or not as GitLab.
    LEDGER = "ledger"  # the database does not answer.
    FAULT = "fault"  # an error of ours.


LIES: Final = frozenset(
    {
        Kind.UNKNOWN_MACHINE,
        Kind.WRONG_CREDENTIAL,
        Kind.BEFORE_BOOT,
        Kind.SECOND_BOOT,
        Kind.AFTER_END,
        Kind.NO_JOB,
        Kind.OTHER_JOB,
        Kind.WRONG_TOKEN,
        Kind.NOT_A_DEPENDENCY,
        Kind.MALFORMED,
        Kind.TOO_LARGE,
        Kind.TOO_SLOW,
        Kind.TOO_OFTEN,
        Kind.CROWD,
    }
)
"""What an honest guest never does; journalled once for each machine and kind."""


GATE_SAYS: Final = "FireRunner's gate"
"""By this every refusal can be told from that of another server."""


class Refusal(Exception):
    """Ends a request with a clear JSON answer.

    `job_status` is sent as `Job-Status`, so that a runner that still works on the job stops.
    """

    def __init__(
        self,
        status: int,
        kind: Kind,
        message: str,
        *,
        retry_after_s: float | None = None,
        job_status: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.retry_after_s = retry_after_s
        self.job_status = job_status


def form(refusal: Refusal) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body. `message` is the key that gitlab-runner shows (network/client.go)."""
    phrase = HTTPStatus(refusal.status).phrase
    body = json.dumps(
        {
            "message": f"{refusal.status} {phrase} - {GATE_SAYS}: {refusal.message}",
            "kind": refusal.kind,
        }
    ).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.retry_after_s is not None:
        # The runner reads whole seconds only (network/retry_requester.go).
        headers.append((b"retry-after", str(max(1, math.ceil(refusal.retry_after_s))).encode()))
    if refusal.job_status is not None:
        headers.append((b"job-status", refusal.job_status.encode("ascii", "replace")))
    return headers, body
