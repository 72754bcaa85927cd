"""What is read from a hook: which project it is about, and whether it can mean work for us.

A Job Hook carries no job tags (GitLab lib/gitlab/data_builder/build.rb), so it cannot say which
pool a job is for. It only means "ask now", and nothing else in it is believed.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

WORK = frozenset({"created", "pending", "waiting_for_resource", "preparing", "running"})
"""Statuses after which a job of the project may be pending now or soon."""


class _Project(BaseModel):
    id: int


class _Attributes(BaseModel):
    status: str | None = None


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")

    object_kind: str
    build_status: str | None = None
    project_id: int | None = None
    project: _Project | None = None
    object_attributes: _Attributes | None = None


@dataclass(frozen=True, slots=True)
class Hook:
    """One authentic hook."""

    kind: str
    project_id: int | None
    means_work: bool
    gitlab: tuple[str, ...]
    """The GitLabs whose hook it may be, by their names in the settings."""


def read_hook(body: bytes, gitlab: tuple[str, ...]) -> Hook | None:
    """The hook in `body`, or None if it is not one that we understand."""
    try:
        hook = _Body.model_validate_json(body)
    except ValidationError:
        return None
    project = hook.project.id if hook.project_id is None and hook.project else hook.project_id
    if hook.object_kind == "build":
        return Hook("build", project, hook.build_status in WORK, gitlab)
    if hook.object_kind == "pipeline":
        status = hook.object_attributes.status if hook.object_attributes else None
        return Hook("pipeline", project, status in WORK, gitlab)
    return Hook(hook.object_kind, project, False, gitlab)
