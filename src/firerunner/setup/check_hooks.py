"""Checks webhooks: are they there, complete, enabled, and does GitLab's own test arrive?"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import httpx

from firerunner.errors import CallRefused, FireRunnerError
from firerunner.findings import Finding, Level
from firerunner.gitlab import HOOK_EVENTS, HookRecord, RestClient, Scope
from firerunner.settings import GitLabSettings, Settings
from firerunner.settings.values import split_address

DOOR = "/webhook"
"""By which a hook of ours is told from others, unless the operator names its address."""

SET_UP = "firerunner gitlab setup --hooks-only --hook-{kind} {path} --webhook-url https://HOST/webhook"
NO_SAMPLE = "Ensure the"
"""How GitLab says that there is no job or pipeline to send a test about (Rails app/services/test_hooks)."""

Heard = Callable[[], Awaitable[float | None]]
"""How many hooks this FireRunner has had; None if that cannot be seen."""


async def check_hooks(
    rest: RestClient, scope: Scope, gitlab: GitLabSettings, *, url: str | None, heard: Heard | None
) -> list[Finding]:
    """The hooks of a project or group. `heard`: send GitLab's test as well."""
    subject = f"hook of {scope}"
    try:
        hooks = [hook for hook in await rest.hooks(scope) if is_ours(hook, url)]
    except CallRefused as error:
        what = f"hooks cannot be looked at ({error.status})"
        return [
            Finding(
                Level.SKIP,
                subject,
                what,
                "It takes a token with `read_api` or `api` of a Maintainer (group: Owner)",
            )
        ]
    except FireRunnerError as error:
        return [Finding(Level.WARN, subject, error.message, error.remedy)]
    if not hooks:
        what = "there is none for FireRunner: jobs start up to `check_interval` later"
        remedy = SET_UP.format(kind=scope.kind, path=scope.path or scope.id)
        return [Finding(Level.WARN, subject, what, remedy)]
    findings: list[Finding] = []
    for hook in hooks:
        findings += hook_findings(subject, hook, gitlab)
        if heard is not None:
            findings.append(await _tested(subject, rest, scope, hook, heard))
    return findings


def is_ours(hook: HookRecord, url: str | None) -> bool:
    """By its address."""
    if url is not None:
        return hook.url.rstrip("/") == url.rstrip("/")
    return urlsplit(hook.url).path.rstrip("/").endswith(DOOR)


def hook_findings(subject: str, hook: HookRecord, gitlab: GitLabSettings) -> list[Finding]:
    """Judge a hook by what FireRunner needs of it."""
    findings = []
    again = "`firerunner gitlab setup` with --webhook-url puts it right"
    if "job_events" not in hook.events:
        findings.append(Finding(Level.FAIL, subject, f"hook {hook.id} sends no job events", again))
    unneeded = sorted(hook.events - set(HOOK_EVENTS))
    if unneeded:
        what = f"hook {hook.id} sends what FireRunner ignores: {', '.join(unneeded)}"
        findings.append(Finding(Level.WARN, subject, what, again))
    if hook.custom_template:
        what = f"hook {hook.id} has a custom template, which FireRunner does not understand"
        findings.append(Finding(Level.FAIL, subject, what, again))
    if urlsplit(hook.url).scheme == "https" and not hook.ssl_verification:
        findings.append(Finding(Level.WARN, subject, f"hook {hook.id} does not verify TLS", again))
    if hook.alert_status == "disabled":
        what = f"GitLab has switched hook {hook.id} off after many failures"
        findings.append(
            Finding(Level.FAIL, subject, what, "Mend the reason, then --send-test switches it on")
        )
    elif hook.alert_status == "temporarily_disabled":
        what = f"GitLab has switched hook {hook.id} off until {hook.disabled_until}, after failures"
        findings.append(Finding(Level.FAIL, subject, what, "Mend the reason: see docs/webhooks.md"))
    if gitlab.webhook_secret is not None and hook.token_present is False:
        findings.append(
            Finding(Level.FAIL, subject, f"hook {hook.id} has no secret token: it gets 401", again)
        )
    if gitlab.webhook_signing_token is not None and not hook.signing_token_present:
        what = f"hook {hook.id} is not signed, but `webhook_signing_token` is configured: it gets 401"
        remedy = (
            f"{again}; or, if this GitLab cannot sign, take webhook_signing_token_file out"
            if hook.signing_token_present is None
            else again
        )
        findings.append(Finding(Level.FAIL, subject, what, remedy))
    return findings or [Finding(Level.OK, subject, f"hook {hook.id} to {hook.url} is as it should be")]


async def _tested(subject: str, rest: RestClient, scope: Scope, hook: HookRecord, heard: Heard) -> Finding:
    before = await heard()
    try:
        await rest.test_hook(scope, hook.id, "job_events")
    except CallRefused as error:
        return refused_test(subject, error)
    except FireRunnerError as error:
        return Finding(Level.WARN, subject, error.message, error.remedy)
    after = await heard()
    if before is None or after is None:
        what = "GitLab's test was answered with 2xx; whether by this FireRunner cannot be seen from here"
        return Finding(Level.OK, subject, what)
    if after <= before:
        what = f"GitLab's test was answered with 2xx, but not by this FireRunner: {hook.url} leads elsewhere"
        return Finding(Level.FAIL, subject, what, "Look at the address and at the proxies on the way")
    return Finding(Level.OK, subject, "GitLab's test has arrived")


def refused_test(subject: str, error: CallRefused) -> Finding:
    """Why GitLab's test failed: GitLab passes on what the receiver or the network said."""
    if error.status == 422 and NO_SAMPLE in error.message:
        what = "GitLab has no job yet to send a test about"
        return Finding(Level.SKIP, subject, what, "Run a pipeline once, then check again")
    if error.status in {403, 404}:
        what = f"GitLab's test cannot be sent with this token ({error.status})"
        return Finding(Level.SKIP, subject, what, "It takes scope `api`, Maintainer, and GitLab 17.1")
    return Finding(
        Level.FAIL,
        subject,
        f"GitLab's test failed: {error.message}",
        "See docs/webhooks.md, `When hooks do not arrive`",
    )


def counter_of(settings: Settings) -> Heard:
    """Reads the count of hooks from the metrics of the service on this computer, if it runs."""
    host, port = split_address(settings.listen.web)
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    shown = f"[{local}]" if ":" in local else local

    async def heard() -> float | None:
        if settings.listen.web_cert_file is not None:
            return None  # its certificate is for another name
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
                answer = await http.get(f"http://{shown}:{port}/metrics")
        except httpx.HTTPError:
            return None
        if answer.status_code != 200:
            return None
        counts = re.findall(r"^firerunner_hooks_total\{[^}]*\} (\S+)$", answer.text, re.MULTILINE)
        return sum(map(float, counts))

    return heard
