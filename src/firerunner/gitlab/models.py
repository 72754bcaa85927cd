"""What we read out of GitLab's answer to an ask; everything else in it passes by untouched.

The whole answer belongs to the runner in the guest, which gets the raw bytes. So the models are
lenient: unknown keys are allowed, null stands for "nothing", and only what FireRunner acts on has a
type. Field names as in gitlab-runner common/spec/spec.go.
"""

from __future__ import annotations

import json
from json import JSONDecodeError, JSONDecoder
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from firerunner.errors import BadAnswer

MAX_TOLD_ERRORS = 3
MAX_QUEUE_S = 1e9


def _none_is_empty(value: Any) -> Any:
    return [] if value is None else value


def _seconds_or_none(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < MAX_QUEUE_S else None


def _none_is_blank(value: Any) -> Any:
    return {} if value is None else value


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class JobInfo(_Lenient):
    """`job_info`: for people; nothing is decided by it."""

    name: str = ""
    stage: str = ""
    project_id: int | None = None
    project_name: str = ""
    project_full_path: str = ""
    """Only in newer GitLab; see `JobAnswer.project_path`."""
    time_in_queue_seconds: Annotated[float | None, BeforeValidator(_seconds_or_none)] = None
    """How long the job had been pending when it was handed out (reference: gitlab.md 3.3). It is only
    shown to people, so nonsense counts as absent."""


class GitInfo(_Lenient):
    """`git_info`. `repo_url` holds credentials: never log it."""

    repo_url: str = Field(default="", repr=False)
    ref: str = ""
    sha: str = ""


class RunnerInfo(_Lenient):
    """`runner_info`: `timeout` is the job's own deadline in seconds, counted from the 201."""

    timeout: int | None = None


class Dependency(_Lenient):
    """One job whose artifacts this job may download, and the token for that."""

    id: StrictInt
    token: StrictStr = Field(repr=False)
    name: str = ""


class Variable(_Lenient):
    """One CI variable. The value may be a secret."""

    key: str
    value: Any = Field(default=None, repr=False)


class JobAnswer(_Lenient):
    """GitLab's 201 to `POST /jobs/request`."""

    id: Annotated[StrictInt, Field(gt=0)]
    token: Annotated[StrictStr, Field(min_length=1, repr=False)]
    job_info: Annotated[JobInfo, BeforeValidator(_none_is_blank)] = JobInfo()
    git_info: Annotated[GitInfo, BeforeValidator(_none_is_blank)] = GitInfo()
    runner_info: Annotated[RunnerInfo, BeforeValidator(_none_is_blank)] = RunnerInfo()
    dependencies: Annotated[tuple[Dependency, ...], BeforeValidator(_none_is_empty)] = ()
    variables: Annotated[tuple[Variable, ...], BeforeValidator(_none_is_empty)] = Field(
        default=(), repr=False
    )
    features: Annotated[dict[str, Any], BeforeValidator(_none_is_blank)] = Field(default_factory=dict)

    def variable(self, key: str) -> str | None:
        """The last value of a variable, as the runner would see it, unexpanded."""
        values = [str(one.value) for one in self.variables if one.key == key and one.value is not None]
        return values[-1] if values else None

    @property
    def project_path(self) -> str:
        """`group/project`: from `job_info` where GitLab is new enough, else from the variables."""
        return (
            self.job_info.project_full_path or self.variable("CI_PROJECT_PATH") or self.job_info.project_name
        )


def parse_answer(raw: bytes) -> JobAnswer:
    """Read an answer. Raises `BadAnswer` that names what is wrong and where, and never a value."""
    try:
        said = json.loads(raw)
    except JSONDecodeError as error:
        raise _bad(raw, f"is not JSON: {error.msg} at byte {error.pos}") from None
    except UnicodeDecodeError as error:
        raise _bad(raw, f"is not text: {error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise _bad(raw, f"cannot be read: {type(error).__name__}") from None
    if not isinstance(said, dict):
        raise _bad(raw, f"is a JSON {type(said).__name__}, not an object")
    try:
        return JobAnswer.model_validate(said)
    except ValidationError as error:
        raise _bad(raw, f"is wrong at {_places(error)}") from None


def _bad(raw: bytes, what: str) -> BadAnswer:
    return BadAnswer(
        f"GitLab's answer to the ask ({len(raw)} bytes) {what}",
        remedy="GitLab or a proxy before it is at fault; the job is reported failed if its id can be read",
    )


def _places(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    told = [f"{'.'.join(str(part) for part in one['loc'])} ({one['msg']})" for one in found[:MAX_TOLD_ERRORS]]
    more = len(found) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")


def salvage(raw: bytes) -> tuple[int, str] | None:
    """Job id and token out of a broken or cut answer, so that the job can still be reported failed.

    Walks the outermost object key by key until the text breaks off. Ids and tokens of dependencies
    further in are never taken for the job's, nor is a number whose end may be missing.
    """
    found = _outer_values(raw.decode("utf-8", errors="replace"))
    job_id, token = found.get("id"), found.get("token")
    if isinstance(job_id, str) and job_id.isascii() and job_id.isdigit():
        job_id = int(job_id[:18])
    if isinstance(job_id, bool) or not isinstance(job_id, int) or job_id <= 0:
        return None
    return (job_id, token) if isinstance(token, str) and token else None


def _outer_values(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    decoder = JSONDecoder()
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        return found
    at += 1
    try:
        while True:
            key, at = decoder.raw_decode(text, _skip(text, at))
            at = _skip(text, at)
            if not isinstance(key, str) or text[at] != ":":
                return found
            value, at = decoder.raw_decode(text, _skip(text, at + 1))
            at = _skip(text, at)
            ended = text[at : at + 1] in {",", "}"}
            if ended or isinstance(value, str):
                found.setdefault(key, value)
            if text[at : at + 1] != ",":
                return found
            at += 1
    except (JSONDecodeError, IndexError, RecursionError, ValueError):
        return found


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at
