"""All that is said to one GitLab, in one hand: asks, job calls, runner records."""

from __future__ import annotations

from dataclasses import dataclass

from firerunner.gitlab.asks import RunnerClient
from firerunner.gitlab.jobs import JobClient
from firerunner.gitlab.runners import RunnersClient


@dataclass(frozen=True, slots=True)
class GitLabCalls:
    """The clients of one GitLab; they share its connections."""

    asks: RunnerClient
    jobs: JobClient
    runners: RunnersClient
