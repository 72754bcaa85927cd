"""Checks the way to a GitLab: name, TLS, proxy, sub-path, version, and how far the clocks differ."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit, urlunsplit

import httpx

from firerunner.errors import CallRefused, FireRunnerError, TokenRefused
from firerunner.findings import Finding, Level
from firerunner.gitlab import RestClient, new_http
from firerunner.settings import GitLabSettings, Settings

PROBE = "/api/v4/version"
"""Answered by every GitLab: 401 and JSON without a token (Rails lib/api/metadata.rb)."""

SKEW_WARN_S = 30.0
SKEW_FAIL_S = 300.0
"""Signatures of hooks are refused from this difference on (Standard Webhooks)."""

OLDEST = (16, 0)
"""Runner managers and `POST /user/runners` with all that is used here are in every GitLab 16."""

EXPIRY_WARN = timedelta(days=14)

USUAL_PATHS = ("/gitlab", "/git")


async def check_reach(settings: Settings, gitlab: GitLabSettings) -> tuple[list[Finding], bool]:
    """Is this a GitLab's API, and do the clocks agree? False if nothing else can be looked at."""
    subject = f"gitlab {gitlab.name}"
    proxy = settings.proxy.for_url(gitlab.url)
    by = " through the proxy" if proxy else ""
    async with new_http(ca_file=gitlab.ca_file, proxy=proxy) as http:
        try:
            answer = await http.get(gitlab.url + PROBE)
        except httpx.HTTPError as error:
            return [unreached(subject, gitlab.url, error, proxied=proxy is not None)], False
        if is_api(answer):
            return [
                Finding(Level.OK, subject, f"GitLab's API answers at {gitlab.url}{by}"),
                *clock_findings(subject, answer.headers, time.time()),
            ], True
        elsewhere = await _first_api(http, other_urls(gitlab.url, answer.headers.get("Location")))
    return [not_api(subject, gitlab.url, answer, elsewhere, proxied=proxy is not None)], False


def is_api(answer: httpx.Response) -> bool:
    """True for what GitLab says to somebody without a token, and to somebody with one."""
    if answer.status_code not in {200, 401}:
        return False
    try:
        said = answer.json()
    except ValueError:
        return False
    return isinstance(said, dict) and ("version" in said or "message" in said)


def other_urls(url: str, location: str | None) -> list[str]:
    """Where the GitLab may be instead: where it redirects to, above, below, by the other scheme."""
    parts = urlsplit(url)
    found = []
    if location is not None:
        target = (
            urlsplit(urlunsplit((parts.scheme, parts.netloc, "", "", "")) + location)
            if (location.startswith("/"))
            else urlsplit(location)
        )
        path = target.path.partition("/api/v4")[0].partition("/users/sign_in")[0]
        found.append(urlunsplit((target.scheme, target.netloc, path.rstrip("/"), "", "")))
    path = parts.path
    while path:
        path = path.rpartition("/")[0]
        found.append(urlunsplit((parts.scheme, parts.netloc, path, "", "")))
    if not parts.path:
        found += [url + usual for usual in USUAL_PATHS]
    return [other for other in dict.fromkeys(found) if other != url and urlsplit(other).hostname]


def not_api(
    subject: str, url: str, answer: httpx.Response, elsewhere: str | None, *, proxied: bool
) -> Finding:
    """What else answers there, and what to do."""
    if answer.status_code == 407:
        return Finding(Level.FAIL, subject, "the proxy wants a user", "Put `user:password@` into `proxy.url`")
    kind = answer.headers.get("Content-Type", "no content type").partition(";")[0]
    what = f"what answers {url}{PROBE} is not GitLab's API: {answer.status_code}, {kind}"
    if answer.has_redirect_location:
        what += f", redirects to {answer.headers['Location']}"
    if elsewhere is not None:
        return Finding(
            Level.FAIL, subject, what, f"A GitLab answers at {elsewhere}: say `gitlab.url: {elsewhere}`"
        )
    if answer.status_code in {502, 503, 504}:
        return Finding(Level.FAIL, subject, what, "GitLab is down, starting, or its front end has lost it")
    remedy = "Give GitLab's own address, with its sub-path if it has one (https://host/gitlab)"
    return Finding(
        Level.FAIL, subject, what, f"{remedy}; or is it the proxy that answers?" if proxied else remedy
    )


def unreached(subject: str, url: str, error: httpx.HTTPError, *, proxied: bool) -> Finding:
    """Why there is no answer, and what to do."""
    text = str(error) or type(error).__name__
    if isinstance(error, httpx.ProxyError) or (proxied and isinstance(error, httpx.ConnectError)):
        remedy = "Check `proxy.url`, or name the host in `proxy.no_proxy`"
    elif "CERTIFICATE_VERIFY_FAILED" in text:
        remedy = "Name the certificate authority of your GitLab in `gitlab.ca_file`"
    elif "WRONG_VERSION_NUMBER" in text or "record layer" in text:
        remedy = "It does not speak TLS there: http:// instead of https://, or another port"
    elif isinstance(error, httpx.TimeoutException):
        remedy = "A firewall, or a proxy that has to be named in `proxy.url`?"
    else:
        remedy = "Check the name, the port, and that GitLab is up"
    return Finding(Level.FAIL, subject, f"GitLab at {url} cannot be reached: {text}", remedy)


def clock_findings(subject: str, headers: Mapping[str, str], now: float) -> list[Finding]:
    """How far this computer's clock is from GitLab's `Date`, which has whole seconds."""
    try:
        theirs = parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except (ValueError, TypeError):
        return [Finding(Level.SKIP, subject, "it says no `Date`, so the clocks cannot be compared")]
    skew_s = now - theirs
    far = f"this clock is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} GitLab's"
    if abs(skew_s) <= SKEW_WARN_S:
        return [Finding(Level.OK, subject, "the clocks agree")]
    if abs(skew_s) < SKEW_FAIL_S:
        return [Finding(Level.WARN, subject, far, "Keep both by NTP (timedatectl set-ntp true)")]
    remedy = "Keep both by NTP (timedatectl set-ntp true): signed hooks are refused, and certificates may be"
    return [Finding(Level.FAIL, subject, far, remedy)]


async def check_token(subject: str, rest: RestClient, *, has_templates: bool) -> list[Finding]:
    """GitLab's version, and what the API token may do."""
    try:
        version = await rest.version()
    except TokenRefused as error:
        return [Finding(Level.FAIL, subject, error.message, "Give a valid token in `api_token_file`")]
    except FireRunnerError as error:
        return [Finding(Level.WARN, subject, f"its version cannot be read: {error.message}", error.remedy)]
    findings = [version_finding(subject, version)]
    try:
        token = await rest.token()
    except CallRefused:
        return [*findings, Finding(Level.SKIP, subject, "the API token's scopes cannot be read")]
    except FireRunnerError as error:
        return [*findings, Finding(Level.WARN, subject, error.message, error.remedy)]
    scopes = ", ".join(sorted(token.scopes)) or "none"
    findings.append(Finding(Level.OK, subject, f"the API token has the scopes {scopes}"))
    lacking = lacking_scopes(token.scopes)
    if has_templates and lacking:
        findings.append(
            Finding(
                Level.FAIL,
                subject,
                f"sized tags need more than the API token may: {', '.join(lacking)}",
                "Make one with scope `api`, or `read_api` and `create_runner`",
            )
        )
    if token.expires_at:
        findings.append(expiry_finding(subject, token.expires_at, datetime.now(UTC).date()))
    return findings


def expiry_finding(subject: str, expires_at: str, today: date) -> Finding:
    """GitLab gives the day from which on the token is refused."""
    what = f"the API token is valid until {expires_at}"
    try:
        left = date.fromisoformat(expires_at[:10]) - today
    except ValueError:
        return Finding(Level.WARN, subject, what)
    if left > EXPIRY_WARN:
        return Finding(Level.OK, subject, what)
    return Finding(Level.WARN, subject, what, "Rotate it, and put the new one into `api_token_file`")


def version_finding(subject: str, version: str) -> Finding:
    """Old ones lack what we need."""
    numbers = version.split(".")
    try:
        old = (int(numbers[0]), int(numbers[1])) < OLDEST
    except (ValueError, IndexError):
        return Finding(Level.WARN, subject, f"GitLab calls its version {version!r}")
    if old:
        return Finding(Level.FAIL, subject, f"GitLab {version} is too old", "Update it to 16.0 or later")
    return Finding(Level.OK, subject, f"GitLab {version}")


def lacking_scopes(scopes: Iterable[str]) -> list[str]:
    """Of what sized tags need: see docs/gitlab-setup.md."""
    has = set(scopes)
    if "api" in has:
        return []
    return sorted({"read_api", "create_runner"} - has)


async def _first_api(http: httpx.AsyncClient, urls: list[str]) -> str | None:
    for url in urls:
        try:
            if is_api(await http.get(url + PROBE)):
                return url
        except httpx.HTTPError:
            continue
    return None
