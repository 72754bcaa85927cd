"""What we say to GitLab and what it says to us. Knows nothing of machines."""

from firerunner.gitlab.asks import Answer, AskedJob, AskedNothing, Refused, RunnerClient, Trouble
from firerunner.gitlab.calls import GitLabCalls
from firerunner.gitlab.http import new_http
from firerunner.gitlab.jobs import JobClient, JobReply
from firerunner.gitlab.models import JobAnswer, parse_answer, salvage
from firerunner.gitlab.runners import ManagerRemoval, RunnerIdentity, RunnersClient

__all__ = [
    "Answer",
    "AskedJob",
    "AskedNothing",
    "GitLabCalls",
    "JobAnswer",
    "JobClient",
    "JobReply",
    "ManagerRemoval",
    "Refused",
    "RunnerClient",
    "RunnerIdentity",
    "RunnersClient",
    "Trouble",
    "new_http",
    "parse_answer",
    "salvage",
]
