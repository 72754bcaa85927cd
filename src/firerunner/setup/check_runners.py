"""Checks a pool's runner: does GitLab take its token, and is it set up so that jobs come and end as meant?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from firerunner.errors import CallRefused, FireRunnerError, TokenRefused
from firerunner.findings import Finding, Level
from firerunner.gitlab import RestClient, RunnerIdentity, RunnerRecord, RunnersClient, Scope
from firerunner.settings import PoolSettings

SYSTEM_ID = "firerunner-check"
EXPIRY_WARN = timedelta(days=7)
SPARE_MANAGERS = 50
"""Runner manager records beyond a pool's limit: ids are kept between asks, some are on their way out."""


async def check_runner_token(
    subject: str, runners: RunnersClient, token: str
) -> tuple[list[Finding], int | None]:
    """The findings, and the runner's id if GitLab tells it. Leaves no manager record behind."""
    try:
        identity = await runners.verify(token, SYSTEM_ID, tries=2)
        await runners.delete_manager(token, SYSTEM_ID, tries=2)
    except TokenRefused as error:
        remedy = "The runner is deleted, or its token changed: `firerunner gitlab setup` makes it anew"
        return [Finding(Level.FAIL, subject, error.message, remedy)], None
    except FireRunnerError as error:
        return [Finding(Level.FAIL, subject, error.message, error.remedy)], None
    return [token_finding(subject, identity, datetime.now(UTC))], identity.runner_id


def token_finding(subject: str, identity: RunnerIdentity, now: datetime) -> Finding:
    """GitLab takes the token; for how long?"""
    what = f"GitLab takes the token of runner {identity.runner_id}"
    if identity.token_expires_at is None:
        return Finding(Level.OK, subject, what)
    until = f"{what}, until {identity.token_expires_at}"
    try:
        end = datetime.fromisoformat(identity.token_expires_at)
    except ValueError:
        return Finding(Level.WARN, subject, until)
    end = end if end.tzinfo else end.replace(tzinfo=UTC)
    if end - now > EXPIRY_WARN:
        return Finding(Level.OK, subject, until)
    pool = subject.removeprefix("pool ")
    return Finding(Level.WARN, subject, until, f"Say `firerunner gitlab setup --rotate {pool}` before")


async def check_runner(
    subject: str, rest: RestClient, runner_id: int, pool: PoolSettings
) -> tuple[list[Finding], set[Scope]]:
    """What GitLab says about the runner, if the API token may see it, and whose jobs it takes."""
    try:
        runner = await rest.runner(runner_id)
        managers = await rest.manager_count(runner_id)
    except CallRefused as error:
        what = f"runner {runner_id} cannot be looked at with this API token ({error.status})"
        return [Finding(Level.SKIP, subject, what)], set()
    except FireRunnerError as error:
        return [Finding(Level.WARN, subject, error.message, error.remedy)], set()
    if runner is None:
        return [Finding(Level.SKIP, subject, f"runner {runner_id} is not shown to this API token")], set()
    findings = [*runner_findings(subject, runner, pool), manager_finding(subject, managers, pool.limit)]
    return findings, owners_of(runner)


def owners_of(runner: RunnerRecord) -> set[Scope]:
    """The projects or the group that the runner is made for; none for an instance's."""
    if runner.runner_type == "group_type":
        return {Scope("group", group_id) for group_id in runner.groups}
    return {Scope("project", project_id) for project_id in runner.projects}


def runner_findings(subject: str, runner: RunnerRecord, pool: PoolSettings) -> list[Finding]:
    """Judge a runner's settings by what its pool can do."""
    findings = []
    takes = f"takes jobs with {', '.join(runner.tags)}" if runner.tags else "has no tags"
    untagged = "and jobs without tags" if runner.run_untagged else "and none without tags"
    if not runner.tags and not runner.run_untagged:
        findings.append(
            Finding(
                Level.FAIL,
                subject,
                "its runner has no tags and takes no untagged jobs: it gets none",
                f"firerunner gitlab setup --tag {pool.name}=TAG",
            )
        )
    else:
        findings.append(Finding(Level.OK, subject, f"its runner {takes} {untagged}"))
    if runner.paused:
        findings.append(
            Finding(
                Level.FAIL,
                subject,
                "its runner is paused in GitLab: it gets no jobs",
                f"Resume runner {runner.id} in GitLab",
            )
        )
    if runner.access_level == "ref_protected":
        findings.append(
            Finding(Level.OK, subject, "its runner takes jobs of protected branches and tags only")
        )
    if runner.runner_type == "project_type" and not runner.locked:
        findings.append(
            Finding(
                Level.WARN,
                subject,
                "its runner is not locked: other projects may use it",
                f"Lock runner {runner.id} in GitLab, unless that is meant",
            )
        )
    findings.append(_timeout_finding(subject, runner, pool))
    return findings


def manager_finding(subject: str, managers: int, limit: int) -> Finding:
    """Each machine leaves one record while it is there; more are leftovers."""
    if managers <= limit + SPARE_MANAGERS:
        return Finding(Level.OK, subject, f"{managers} runner manager records")
    what = f"{managers} runner manager records for at most {limit} machines"
    remedy = "Does another service use this token? What was left behind, GitLab removes after 7 days"
    return Finding(Level.WARN, subject, what, remedy)


def _timeout_finding(subject: str, runner: RunnerRecord, pool: PoolSettings) -> Finding:
    ours, theirs = pool.max_job_time, runner.maximum_timeout_s
    if theirs is not None and theirs <= max(ours, 600):
        return Finding(Level.OK, subject, f"GitLab ends jobs after {theirs} s at the latest")
    said = "has no maximum timeout" if theirs is None else f"lets jobs run {theirs} s"
    return Finding(
        Level.WARN,
        subject,
        f"its runner {said}, but FireRunner ends them after {ours:.0f} s (`max_job_time`)",
        "`firerunner gitlab setup` makes both the same",
    )
