"""A faithful GitLab on the wire: runner protocol, REST, webhooks, git over HTTP, artifacts.

Hold it with `FakeGitLab`, or run it with `python -m firerunner.fakes.gitlab --help`.
"""

from firerunner.fakes.gitlab.clock import HeldClock
from firerunner.fakes.gitlab.misbehave import Rule, bad_gateway, conflict, too_many_requests
from firerunner.fakes.gitlab.model import Job, JobStatus, Pipeline, Project, Runner
from firerunner.fakes.gitlab.server import FakeGitLab
from firerunner.fakes.gitlab.settings import Behaviour

__all__ = [
    "Behaviour",
    "FakeGitLab",
    "HeldClock",
    "Job",
    "JobStatus",
    "Pipeline",
    "Project",
    "Rule",
    "Runner",
    "bad_gateway",
    "conflict",
    "too_many_requests",
]
