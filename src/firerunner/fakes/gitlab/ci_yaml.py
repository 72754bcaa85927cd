"""Reads the subset of `.gitlab-ci.yml` that the fake GitLab understands, and refuses the rest by name.

Supported: `stages`, `variables`, `default` (and the same keys at the top level), and per job `stage`,
`script`, `before_script`, `after_script`, `variables`, `tags`, `artifacts` (`paths`, `exclude`, `when`,
`expire_in`, `name`, `untracked`, `reports`), `timeout`, `allow_failure` (also `exit_codes`), `parallel: N`,
`retry`, `dependencies`, `when` (`on_success`, `on_failure`, `always`). Names that begin with a dot are
templates and ignored, as in GitLab.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

DEFAULT_STAGES = (".pre", "build", "test", "deploy", ".post")
DEFAULTABLE = frozenset(
    {"before_script", "after_script", "tags", "artifacts", "timeout", "retry", "image", "services"}
)
GLOBAL_KEYS = frozenset({"stages", "variables", "default", "before_script", "after_script"})
JOB_KEYS = DEFAULTABLE | {
    "stage", "script", "variables", "allow_failure", "parallel", "dependencies", "when",
}  # fmt: skip
ARTIFACT_KEYS = frozenset({"paths", "exclude", "when", "expire_in", "name", "untracked", "reports"})
CONTAINER_KEYS = frozenset({"name", "alias", "entrypoint", "command"})
WHEN = frozenset({"on_success", "on_failure", "always"})
RETRY_REASONS = frozenset(
    {
        "always", "unknown_failure", "script_failure", "api_failure", "stuck_or_timeout_failure",
        "runner_system_failure", "runner_unsupported", "stale_schedule", "job_execution_timeout",
        "archived_failure", "unmet_prerequisites", "scheduler_failure", "data_integrity_failure",
    }
)  # fmt: skip
RETRY_MAX = 2
PARALLEL_MAX = 200
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
_UNIT_S = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
    **dict.fromkeys(("w", "week", "weeks"), 604800),
}


class CiYamlError(ValueError):
    """The file is not valid, or uses a keyword that the fake does not know."""


@dataclass(frozen=True, slots=True)
class ArtifactSpec:
    """The archive that a job promises, and the reports beside it (`type -> paths`)."""

    paths: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    when: str = "on_success"
    expire_in: str | None = None
    name: str | None = None
    untracked: bool = False
    reports: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def has_archive(self) -> bool:
        """Whether there is anything for the archive itself, reports apart."""
        return bool(self.paths) or self.untracked


@dataclass(frozen=True, slots=True)
class RetrySpec:
    """How often a failed job is tried again, and after which failure reasons."""

    max: int = 0
    when: frozenset[str] = frozenset({"always"})

    def covers(self, reason: str, retries_so_far: int) -> bool:
        """Whether a failure for this reason leads to another try."""
        return retries_so_far < self.max and bool(self.when & {"always", reason})


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job as the author wrote it; parallel jobs are already one each."""

    name: str
    stage: str
    script: tuple[str, ...]
    before_script: tuple[str, ...] = ()
    after_script: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    artifacts: ArtifactSpec | None = None
    timeout_s: int | None = None
    allow_failure: bool = False
    allowed_exit_codes: frozenset[int] = frozenset()
    retry: RetrySpec = RetrySpec()
    dependencies: tuple[str, ...] | None = None
    when: str = "on_success"
    image: Mapping[str, Any] | None = None
    """As in GitLab's answer to an ask: name, entrypoint."""
    services: tuple[Mapping[str, Any], ...] = ()
    node_index: int | None = None
    node_total: int = 1


@dataclass(frozen=True, slots=True)
class CiFile:
    """A whole file."""

    stages: tuple[str, ...]
    variables: Mapping[str, str]
    jobs: tuple[JobSpec, ...]


def parse(text: str) -> CiFile:
    """Read a `.gitlab-ci.yml`. Raises `CiYamlError` naming the job, the key and the nearest known key."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CiYamlError(f"(<unknown>): {error}") from error
    if not isinstance(document, dict) or not document:
        raise CiYamlError("the file must be a mapping with at least one job")
    defaults = _mapping(document.get("default", {}), "default")
    _known(defaults, DEFAULTABLE, "default")
    defaults |= {key: document[key] for key in ("before_script", "after_script") if key in document}
    stages = (
        (".pre", *_strings(document["stages"], "stages"), ".post") if "stages" in document else DEFAULT_STAGES
    )
    jobs: list[JobSpec] = []
    for name, body in document.items():
        if name in GLOBAL_KEYS or str(name).startswith("."):
            continue
        if not isinstance(body, dict) or ("script" not in body and not set(body) & JOB_KEYS):
            raise CiYamlError(f"unknown global keyword or malformed job {_named(str(name), GLOBAL_KEYS)}")
        jobs += _job(str(name), defaults | body, stages)
    if not jobs:
        raise CiYamlError("jobs config should contain at least one visible job")
    _check_dependencies(jobs, stages)
    return CiFile(stages, _variables(document.get("variables", {}), "variables"), tuple(jobs))


def duration_s(value: Any, where: str) -> int:
    """Seconds of a GitLab duration such as `90 minutes`, `1h 30m` or a plain number of seconds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = str(value).lower().replace(",", " ").replace(" and ", " ")
    parts = _DURATION.findall(text)
    if not parts or _DURATION.sub("", text).strip() or any(unit not in _UNIT_S for _, unit in parts):
        raise CiYamlError(f"{where} should be a duration such as '10 minutes', not {value!r}")
    return round(sum(float(number) * _UNIT_S[unit] for number, unit in parts))


def _job(name: str, body: dict[str, Any], stages: tuple[str, ...]) -> list[JobSpec]:
    where = f"jobs:{name}"
    _known(body, JOB_KEYS, where)
    if "script" not in body:
        raise CiYamlError(f"{where} script can't be blank")
    stage = str(body.get("stage", "test"))
    if stage not in stages:
        raise CiYamlError(
            f"{where} chosen stage {stage} does not exist; available stages are {', '.join(stages)}"
        )
    when = str(body.get("when", "on_success"))
    if when not in WHEN:
        raise CiYamlError(f"{where}:when {when!r} is not one of {', '.join(sorted(WHEN))}")
    allow, exit_codes = _allow_failure(body.get("allow_failure", False), where)
    total = body.get("parallel")
    if total is not None and (not isinstance(total, int) or not 1 <= total <= PARALLEL_MAX):
        raise CiYamlError(f"{where}:parallel should be a number from 1 to {PARALLEL_MAX} (no matrix here)")
    common: dict[str, Any] = {
        "stage": stage,
        "script": _script(body["script"], f"{where}:script"),
        "before_script": _script(body.get("before_script", []), f"{where}:before_script"),
        "after_script": _script(body.get("after_script", []), f"{where}:after_script"),
        "variables": _variables(body.get("variables", {}), f"{where}:variables"),
        "tags": _strings(body.get("tags", []), f"{where}:tags"),
        "artifacts": _artifacts(body["artifacts"], where) if "artifacts" in body else None,
        "timeout_s": duration_s(body["timeout"], f"{where}:timeout") if "timeout" in body else None,
        "allow_failure": allow,
        "allowed_exit_codes": exit_codes,
        "retry": _retry(body.get("retry", 0), where),
        "dependencies": _strings(body["dependencies"], f"{where}:dependencies")
        if "dependencies" in body
        else None,
        "when": when,
        "image": _container(body["image"], f"{where}:image") if "image" in body else None,
        "services": tuple(_container(each, f"{where}:services") for each in body.get("services", [])),
    }
    if total is None:
        return [JobSpec(name=name, **common)]
    return [
        JobSpec(name=f"{name} {index}/{total}", node_index=index, node_total=total, **common)
        for index in range(1, total + 1)
    ]


def _container(value: Any, where: str) -> dict[str, Any]:
    """An image or a service, as a name or in its long form."""
    body = {"name": value} if isinstance(value, str) else _mapping(value, where)
    _known(body, CONTAINER_KEYS, where)
    if not body.get("name"):
        raise CiYamlError(f"{where} name can't be blank")
    return {
        "name": str(body["name"]),
        "alias": body.get("alias"),
        "entrypoint": list(_strings(body["entrypoint"], where)) if "entrypoint" in body else None,
        "command": list(_strings(body["command"], where)) if "command" in body else None,
        "ports": [],
        "variables": [],
    }


def _artifacts(value: Any, where: str) -> ArtifactSpec:
    where = f"{where}:artifacts"
    body = _mapping(value, where)
    _known(body, ARTIFACT_KEYS, where)
    when = str(body.get("when", "on_success"))
    if when not in WHEN:
        raise CiYamlError(f"{where}:when {when!r} is not one of {', '.join(sorted(WHEN))}")
    if "expire_in" in body and body["expire_in"] != "never":
        duration_s(body["expire_in"], f"{where}:expire_in")
    reports = _mapping(body.get("reports", {}), f"{where}:reports")
    return ArtifactSpec(
        paths=_strings(body.get("paths", []), f"{where}:paths"),
        exclude=_strings(body.get("exclude", []), f"{where}:exclude"),
        when=when,
        expire_in=str(body["expire_in"]) if "expire_in" in body else None,
        name=str(body["name"]) if "name" in body else None,
        untracked=bool(body.get("untracked", False)),
        reports={str(kind): _strings(paths, f"{where}:reports:{kind}") for kind, paths in reports.items()},
    )


def _retry(value: Any, where: str) -> RetrySpec:
    where = f"{where}:retry"
    body = {"max": value} if isinstance(value, int) else _mapping(value, where)
    _known(body, frozenset({"max", "when"}), where)
    most = body.get("max", RETRY_MAX)
    if not isinstance(most, int) or not 0 <= most <= RETRY_MAX:
        raise CiYamlError(f"{where}:max should be a number from 0 to {RETRY_MAX}")
    reasons = frozenset(_strings(body.get("when", ["always"]), f"{where}:when"))
    for reason in sorted(reasons - RETRY_REASONS):
        raise CiYamlError(f"{where}:when has an unknown value {_named(reason, RETRY_REASONS)}")
    return RetrySpec(most, reasons)


def _allow_failure(value: Any, where: str) -> tuple[bool, frozenset[int]]:
    if isinstance(value, bool):
        return value, frozenset()
    body = _mapping(value, f"{where}:allow_failure")
    _known(body, frozenset({"exit_codes"}), f"{where}:allow_failure")
    codes = body.get("exit_codes", [])
    return False, frozenset(codes if isinstance(codes, list) else [codes])


def _check_dependencies(jobs: list[JobSpec], stages: tuple[str, ...]) -> None:
    stage_of = {job.name.partition(" ")[0]: stages.index(job.stage) for job in jobs}
    stage_of |= {job.name: stages.index(job.stage) for job in jobs}
    for job in jobs:
        for wanted in job.dependencies or ():
            if wanted not in stage_of:
                raise CiYamlError(
                    f"jobs:{job.name}:dependencies: undefined dependency {_named(wanted, stage_of)}"
                )
            if stage_of[wanted] >= stages.index(job.stage):
                raise CiYamlError(f"jobs:{job.name}:dependencies: {wanted} is not defined in a prior stage")


def _script(value: Any, where: str) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else _strings(value, where)


def _strings(value: Any, where: str) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list):
        raise CiYamlError(f"{where} should be a string or a list of strings, not {type(value).__name__}")
    flat: list[str] = []
    for item in items:
        flat += item if isinstance(item, list) else [item]
    if not all(isinstance(item, str) for item in flat):
        raise CiYamlError(f"{where} should hold only strings")
    return tuple(flat)


def _variables(value: Any, where: str) -> dict[str, str]:
    body = _mapping(value, where)
    return {str(key): str(item["value"] if isinstance(item, dict) else item) for key, item in body.items()}


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CiYamlError(f"{where} should be a mapping, not {type(value).__name__}")
    return dict(value)


def _known(body: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for key in body:
        if key not in known:
            raise CiYamlError(f"{where} config contains unknown keys: {_named(str(key), known)}")


def _named(key: str, known: Any) -> str:
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"{key} (did you mean {near[0]}?)" if near else key
