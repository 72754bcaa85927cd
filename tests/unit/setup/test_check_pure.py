"""How the checks judge what they are shown."""

from __future__ import annotations

from datetime import UTC, date, datetime
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from firerunner.errors import CallRefused
from firerunner.findings import Level
from firerunner.gitlab import HookRecord, RunnerIdentity, RunnerRecord
from firerunner.settings import GitLabSettings, PoolSettings
from firerunner.setup.check_guest import judge_guest, script
from firerunner.setup.check_hooks import hook_findings, is_ours, refused_test
from firerunner.setup.check_reach import (
    clock_findings,
    expiry_finding,
    is_api,
    lacking_scopes,
    other_urls,
    unreached,
    version_finding,
)
from firerunner.setup.check_runners import manager_finding, runner_findings, token_finding
from firerunner.setup.guest_gate import GuestGate

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("skew_s", "level"),
    [(0, "ok"), (30, "ok"), (-30, "ok"), (31, "warn"), (-299, "warn"), (300, "fail"), (-4000, "fail")],
)
def test_clocks_that_differ_are_told(skew_s: float, level: str) -> None:
    (finding,) = clock_findings("gitlab", {"Date": formatdate(NOW - skew_s, usegmt=True)}, NOW)

    assert finding.level == level


def test_a_clock_that_nobody_tells_is_not_judged() -> None:
    assert [finding.level for finding in clock_findings("gitlab", {}, NOW)] == [Level.SKIP]


@pytest.mark.parametrize(
    ("url", "location", "first"),
    [
        ("http://host", "https://host/api/v4/version", "https://host"),
        ("https://host", "/gitlab/users/sign_in", "https://host/gitlab"),
        ("https://host/wrong/deep", None, "https://host/wrong"),
        ("https://host", None, "https://host/gitlab"),
    ],
)
def test_where_else_the_gitlab_may_be(url: str, location: str | None, first: str) -> None:
    assert other_urls(url, location)[0] == first


@pytest.mark.parametrize(
    ("status", "body", "api"),
    [
        (401, '{"message":"401 Unauthorized"}', True),
        (200, '{"version":"19.4.0"}', True),
        (200, "<html>", False),
        (404, '{"error":"404 Not Found"}', False),
        (401, "Unauthorized", False),
        (200, "[]", False),
    ],
)
def test_what_is_gitlabs_api(status: int, body: str, api: bool) -> None:
    assert is_api(httpx.Response(status, text=body)) is api


@pytest.mark.parametrize(
    ("error", "proxied", "remedy"),
    [
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), False, "ca_file"),
        (httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version"), False, "http://"),
        (httpx.ProxyError("407"), True, "proxy.url"),
        (httpx.ConnectError("refused"), True, "proxy.url"),
        (httpx.ConnectTimeout(""), False, "firewall"),
        (httpx.ConnectError("refused"), False, "that GitLab is up"),
    ],
)
def test_each_way_not_to_get_there_has_its_remedy(error: httpx.HTTPError, proxied: bool, remedy: str) -> None:
    assert remedy in unreached("gitlab", "https://host", error, proxied=proxied).remedy


@pytest.mark.parametrize(
    ("version", "level"),
    [("19.4.0-ee", "ok"), ("16.0.1", "ok"), ("15.11.13", "fail"), ("", "warn"), ("next", "warn")],
)
def test_versions(version: str, level: str) -> None:
    assert version_finding("gitlab", version).level == level


def test_scopes_that_sized_tags_need() -> None:
    assert lacking_scopes({"api"}) == []
    assert lacking_scopes({"read_api", "create_runner"}) == []
    assert lacking_scopes({"read_api"}) == ["create_runner"]


def test_tokens_that_end_soon_are_told() -> None:
    today = date(2026, 11, 1)
    assert expiry_finding("gitlab", "2027-01-01", today).level is Level.OK
    assert expiry_finding("gitlab", "2026-11-10", today).level is Level.WARN
    now = datetime(2026, 11, 1, tzinfo=UTC)
    assert token_finding("pool a", RunnerIdentity(7, None), now).level is Level.OK
    assert token_finding("pool a", RunnerIdentity(7, "2026-12-01T00:00:00.000Z"), now).level is Level.OK
    soon = token_finding("pool a", RunnerIdentity(7, "2026-11-05T00:00:00.000Z"), now)
    assert (soon.level, "--rotate a" in soon.remedy) == (Level.WARN, True)


def runner(**changes: Any) -> RunnerRecord:
    facts: dict[str, Any] = {
        "id": 7, "description": "", "runner_type": "project_type", "paused": False, "locked": True,
        "run_untagged": False, "tags": ("linux",), "access_level": "not_protected",
        "maximum_timeout_s": 3600, "maintenance_note": "", "projects": (1,), "groups": (),
    }  # fmt: skip
    return RunnerRecord(**(facts | changes))


@pytest.mark.parametrize(
    ("changes", "levels"),
    [
        ({}, {"ok"}),
        ({"paused": True}, {"ok", "fail"}),
        ({"tags": ()}, {"ok", "fail"}),
        ({"locked": False}, {"ok", "warn"}),
        ({"locked": False, "runner_type": "group_type"}, {"ok"}),
        ({"access_level": "ref_protected"}, {"ok"}),
        ({"maximum_timeout_s": None}, {"ok", "warn"}),
        ({"maximum_timeout_s": 3601}, {"ok", "warn"}),
        ({"maximum_timeout_s": 600}, {"ok"}),
    ],
)
def test_runners_are_judged_by_their_pool(changes: dict[str, Any], levels: set[str]) -> None:
    pool = PoolSettings(name="small", runner_token="x", image="demo", max_job_time=3600)  # type: ignore[arg-type]

    assert {finding.level for finding in runner_findings("pool", runner(**changes), pool)} == levels


def test_too_many_records_are_leftovers() -> None:
    assert manager_finding("pool", 60, 10).level is Level.OK
    assert manager_finding("pool", 61, 10).level is Level.WARN


def hook(**changes: Any) -> HookRecord:
    facts: dict[str, Any] = {
        "id": 5, "url": "https://host/webhook", "events": frozenset({"job_events", "pipeline_events"}),
        "ssl_verification": True, "alert_status": "executable", "disabled_until": None,
        "token_present": True, "signing_token_present": None, "custom_template": False,
    }  # fmt: skip
    return HookRecord(**(facts | changes))


@pytest.mark.parametrize(
    ("changes", "signed", "level", "word"),
    [
        ({}, False, "ok", "as it should be"),
        ({"events": frozenset({"pipeline_events"})}, False, "fail", "no job events"),
        ({"events": frozenset({"job_events", "push_events"})}, False, "warn", "push_events"),
        ({"ssl_verification": False}, False, "warn", "TLS"),
        ({"custom_template": True}, False, "fail", "template"),
        ({"alert_status": "disabled"}, False, "fail", "switched"),
        ({"alert_status": "temporarily_disabled", "disabled_until": "soon"}, False, "fail", "until soon"),
        ({"token_present": False}, False, "fail", "no secret token"),
        ({"token_present": None}, False, "ok", "as it should be"),
        ({"signing_token_present": True}, True, "ok", "as it should be"),
        ({"signing_token_present": False}, True, "fail", "not signed"),
        ({"signing_token_present": None}, True, "fail", "not signed"),
    ],
)
def test_hooks_are_judged_by_what_the_door_wants(
    changes: dict[str, Any], signed: bool, level: str, word: str
) -> None:
    signing = {"webhook_signing_token": f"whsec_{'A' * 43}="} if signed else {}
    gitlab = GitLabSettings.model_validate({"url": "https://g", "webhook_secret": "s", **signing})

    (finding,) = hook_findings("hook", hook(**changes), gitlab)

    assert (finding.level, word in finding.what) == (level, True)


def test_our_hook_is_known_by_its_address() -> None:
    assert is_ours(hook(), None)
    assert not is_ours(hook(url="https://chat.example.com/hooks/1"), None)
    assert is_ours(hook(url="https://host/fire/"), "https://host/fire")
    assert not is_ours(hook(), "https://host/fire")


@pytest.mark.parametrize(
    ("status", "said", "level"),
    [
        (422, "422 Ensure the project has CI jobs.", "skip"),
        (422, "422 Failed to open TCP connection", "fail"),
        (403, "403 Forbidden", "skip"),
        (404, "404 Not Found", "skip"),
    ],
)
def test_why_a_test_failed(status: int, said: str, level: str) -> None:
    assert refused_test("hook", CallRefused(said, status=status)).level == level


@pytest.mark.parametrize(
    ("log", "levels", "word"),
    [
        (b"firerunner-check 200\n", ["ok", "ok"], "reaches GitLab"),
        (b"firerunner-check 302\n", ["ok", "ok"], "reaches GitLab"),
        (b"curl: (6) Could not resolve host: g\nfirerunner-check 000\n", ["ok", "fail"], "Could not resolve"),
        (b"curl: (60) SSL certificate problem: x\nfirerunner-check 000\n", ["ok", "fail"], "certificate"),
        (b"firerunner-check 502\n", ["ok", "fail"], "proxy"),
        (b"", ["ok", "fail"], "no answer in time"),
    ],
)
def test_what_a_guest_says(log: bytes, levels: list[str], word: str) -> None:
    gate = GuestGate("fr-0", "c", "t", [], booted=True, asked=True)
    gate.log += b"$ " + script("https://g/users/sign_in")[0].encode() + b"\n" + log

    findings = judge_guest("guest", gate, "https://g/users/sign_in", "")

    assert [finding.level for finding in findings] == levels
    assert word in findings[-1].what


def test_a_guest_that_is_not_heard_shows_its_console() -> None:
    (finding,) = judge_guest("guest", GuestGate("fr-0", "c", "t", []), "https://g", "Kernel panic\n")

    assert (finding.level, "Kernel panic" in finding.what) == (Level.FAIL, True)
