"""`firerunner gitlab check` against the fake GitLab, after a set-up and after things have gone wrong."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import Receive, Scope, Send

from firerunner.fakes.gitlab import FakeGitLab
from firerunner.fakes.gitlab.listener import Certificate
from firerunner.findings import Finding, Level
from firerunner.gitlab import RestClient
from firerunner.serving import served
from firerunner.settings import ListenSettings, load_settings
from firerunner.setup import checking
from firerunner.setup.check_hooks import counter_of
from firerunner.setup.checking import check_gitlab
from firerunner.setup.wishes import Options, chosen_gitlab, chosen_pools
from tests.certificates import authority

from .setup_given import HOOK_URL, Stage, pool

pytestmark = pytest.mark.anyio


async def check(stage: Stage, **request: object) -> list[Finding]:
    stage.write()
    settings = load_settings(stage.config)
    gitlab = chosen_gitlab(settings, None)
    wanted = checking.Request(**request)  # type: ignore[arg-type]
    return await check_gitlab(settings, gitlab, chosen_pools(settings, gitlab, ()), wanted)


def bad(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(f.level.value, f.subject) for f in findings if f.level not in {Level.OK, Level.SKIP}]


async def test_what_setup_made_is_right(stage: Stage) -> None:
    await stage.set_up(Options(webhook_url=HOOK_URL), hooks=[stage.scope])
    managers = stage.gitlab.managers()

    findings = await check(stage, token=stage.gitlab.api_token)

    assert bad(findings) == []
    said = " ".join(finding.what for finding in findings)
    assert "GitLab 19.4.0" in said
    assert "its runner takes jobs with small" in said
    assert "is as it should be" in said
    assert stage.gitlab.managers() == managers


async def test_without_an_api_token_runners_are_checked_by_their_own(stage: Stage) -> None:
    stage.pools = [pool("small"), pool("large")]
    await stage.set_up()
    stage.gitlab.delete_runner(stage.secret("large.token").read_text().strip())
    stage.secret("hook-secret").write_text("secret")

    findings = await check(stage)

    assert bad(findings) == [("fail", "pool large")]
    assert [f.subject for f in findings if f.level is Level.SKIP] == ["gitlab gitlab"]


async def test_what_people_changed_in_gitlab_is_found(stage: Stage) -> None:
    await stage.set_up(Options(webhook_url=HOOK_URL), hooks=[stage.scope])
    (runner,), (hook,) = stage.gitlab.world.runners.values(), stage.gitlab.world.hooks.values()
    runner.paused, runner.maximum_timeout_s, hook.job_events = True, 86_400, False

    findings = await check(stage, token=stage.gitlab.api_token)

    assert bad(findings) == [
        ("fail", "pool small"),
        ("warn", "pool small"),
        ("fail", "hook of project group/app"),
    ]


async def test_a_hook_that_is_not_there_is_only_slower(stage: Stage) -> None:
    await stage.set_up()
    stage.secret("hook-secret").write_text("secret")

    findings = await check(stage, token=stage.gitlab.api_token)

    assert bad(findings) == [("warn", "hook of project group/app")]
    assert "--hook-project group/app" in findings[-1].remedy


async def test_a_wrong_sub_path_is_named_with_the_right_one(stage: Stage, tmp_path: Path) -> None:
    await stage.set_up()
    stage.secret("hook-secret").write_text("secret")
    stage.more["url"] = stage.gitlab.url + "/git/lab"

    (finding,) = await check(stage)

    assert finding.level is Level.FAIL
    assert f"gitlab.url: {stage.gitlab.url}" in finding.remedy


async def test_a_gitlab_that_is_not_there(stage: Stage) -> None:
    stage.secret("small.token").write_text("x")
    stage.secret("hook-secret").write_text("secret")
    stage.more["url"] = "http://127.0.0.1:9"

    (finding,) = await check(stage)

    assert (finding.level, "cannot be reached" in finding.what) == (Level.FAIL, True)


async def test_the_command_prints_findings_and_exits_with_1(stage: Stage) -> None:
    stage.secret("small.token").write_text("glrt-deleted")
    stage.secret("hook-secret").write_text("secret")

    ran = await stage.run("check", "--json", environment={"GITLAB_TOKEN": stage.gitlab.api_token})

    findings = json.loads(ran.out)
    assert ran.status == 1
    assert {"level": "fail", "subject": "pool small"}.items() <= findings[-2].items()
    assert "glrt-deleted" not in ran.out + ran.err


async def sent(stage: Stage, heard: list[float | None], monkeypatch: pytest.MonkeyPatch) -> Finding:
    """What is found when GitLab's test is sent; `heard` is the service's count of hooks before and after."""

    async def count() -> float | None:
        return heard.pop(0)

    monkeypatch.setattr(checking, "counter_of", lambda settings: count)
    await stage.set_up(Options(webhook_url=HOOK_URL), hooks=[stage.scope])
    return (await check(stage, token=stage.gitlab.api_token, send_test=True))[-1]


SENT = {"status": 201, "body": '{"message":"201 Created"}'}


@pytest.mark.parametrize(
    ("answer", "heard", "level", "word"),
    [
        (SENT, [4.0, 5.0], "ok", "has arrived"),
        (SENT, [None, None], "ok", "cannot be seen from here"),
        (SENT, [4.0, 4.0], "fail", "leads elsewhere"),
        (
            {"status": 422, "body": '{"message":"hook refused: secret token wrong"}'},
            [4.0],
            "fail",
            "token wrong",
        ),
        (
            {"status": 422, "body": '{"message":"Ensure the project has CI jobs."}'},
            [4.0],
            "skip",
            "no job yet",
        ),
    ],
)
async def test_gitlabs_own_test_is_sent_and_has_to_arrive_here(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    answer: dict[str, Any],
    heard: list[float | None],
    level: str,
    word: str,
) -> None:
    stage.gitlab.misbehave(".*/hooks/501/test/job_events", method="POST", **answer)

    finding = await sent(stage, list(heard), monkeypatch)

    assert (finding.level, word in finding.what) == (level, True)


async def test_the_services_hooks_are_counted_by_its_metrics(stage: Stage) -> None:
    text = (
        'firerunner_hooks_total{outcome="woke"} 3.0\nfirerunner_hooks_total{outcome="ignored"} 2.0\nother 7\n'
    )

    async def metrics(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(text)(scope, receive, send)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        async with served(metrics, listener):
            settings = stage.settings().with_sections({"listen": ListenSettings(web=address)})
            assert await counter_of(settings)() == 5.0
    assert await counter_of(settings)() is None


async def test_a_private_authority_under_a_sub_path(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    chain, key = ca.server(tmp_path, ["localhost", "127.0.0.1"])
    certificate = Certificate(chain, key)
    async with FakeGitLab(
        tmp_path / "gitlab", certificate=certificate, external_url="https://localhost:PORT/gitlab"
    ) as gitlab:
        project = await gitlab.add_project("group/app", {".gitlab-ci.yml": "one:\n  script: [x]\n"})
        stage = Stage(tmp_path, gitlab, project, [pool()], {"ca_file": str(ca.file)})
        await stage.set_up(Options(webhook_url=HOOK_URL), hooks=[stage.scope])

        assert bad(await check(stage, token=gitlab.api_token)) == []

        stage.more = {"url": gitlab.url.removesuffix("/gitlab"), "ca_file": str(ca.file)}
        (wrong_path,) = await check(stage)
        assert f"gitlab.url: {gitlab.url}" in wrong_path.remedy

        stage.more = {}
        (untrusted,) = await check(stage)
        assert "ca_file" in untrusted.remedy


async def test_rest_calls_go_through_the_proxy_that_is_named() -> None:
    """A proxy for http is asked with the whole address; this one answers by itself."""
    asked: list[str] = []

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(dict(scope["headers"])[b"host"].decode() + scope["path"])
        await JSONResponse({"version": "19.4.0"})(scope, receive, send)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with served(proxy, listener):
            client = RestClient("http://gitlab.invalid/git", "t", proxy=url)
            assert await client.version() == "19.4.0"
            await client.aclose()

    assert asked == ["gitlab.invalid/git/api/v4/version"]
