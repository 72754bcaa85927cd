"""Starts a pipeline: looks up the ref, reads the CI file at that commit, keeps the commit."""

from __future__ import annotations

from firerunner.fakes.gitlab import ci_yaml, repository, scheduler
from firerunner.fakes.gitlab.model import Pipeline, Project
from firerunner.fakes.gitlab.world import World

CI_FILE = ".gitlab-ci.yml"


class RefMissing(LookupError):
    """The project has no branch or tag of that name."""


async def start_pipeline(world: World, project: Project, ref: str, variables: dict[str, str]) -> Pipeline:
    """Raises `RefMissing` or `CiYamlError`."""
    commit = await repository.look_up(project.repository, ref)
    if commit is None:
        raise RefMissing(f"{project.path} has no branch or tag {ref}")
    text = await repository.read(project.repository, commit.sha, CI_FILE)
    if text is None:
        raise ci_yaml.CiYamlError("Missing CI config file")
    ci = ci_yaml.parse(text)
    pipeline_id = world.new_id("pipeline", 101)
    await repository.keep(project.repository, pipeline_id, commit.sha)
    return scheduler.create_pipeline(
        world,
        project,
        ci,
        pipeline_id=pipeline_id,
        ref=ref,
        tag=commit.is_tag,
        sha=commit.sha,
        before_sha=commit.before_sha,
        message=commit.message,
        variables=variables,
    )
