"""What we say to GitLab and what it says to us. Knows nothing of machines."""

from firerunner.gitlab.asks import Answer, AskedJob, AskedNothing, Raced, Refused, RunnerClient, Trouble
from firerunner.gitlab.backoff import MAX_RETRY_AFTER_S
from firerunner.gitlab.calls import GitLabCalls
from firerunner.gitlab.http import new_http
from firerunner.gitlab.jobs import JobClient, JobReply
from firerunner.gitlab.models import JobAnswer, parse_answer, salvage
from firerunner.gitlab.rest import RestClient
from firerunner.gitlab.rest_records import (
    HOOK_EVENTS,
    HookRecord,
    NewRunner,
    PendingJob,
    RunnerRecord,
    RunnersJob,
    RunnerSummary,
    Scope,
    ScopeKind,
    TokenFacts,
)
from firerunner.gitlab.runners import ManagerRemoval, RunnerIdentity, RunnersClient

__all__ = [
    "HOOK_EVENTS",
    "MAX_RETRY_AFTER_S",
    "Answer",
    "AskedJob",
    "AskedNothing",
    "GitLabCalls",
    "HookRecord",
    "JobAnswer",
    "JobClient",
    "JobReply",
    "ManagerRemoval",
    "NewRunner",
    "PendingJob",
    "Raced",
    "Refused",
    "RestClient",
    "RunnerClient",
    "RunnerIdentity",
    "RunnerRecord",
    "RunnerSummary",
    "RunnersClient",
    "RunnersJob",
    "Scope",
    "ScopeKind",
    "TokenFacts",
    "Trouble",
    "new_http",
    "parse_answer",
    "salvage",
]
