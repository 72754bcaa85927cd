"""Set-up and check for groups, for the whole instance, and with tokens that may not do it: the commands."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from firerunner.demo.stage import free_port
from firerunner.fakes.gitlab.model import Group

from .setup_given import PATIENCE_S, Ran, Stage

pytestmark = pytest.mark.anyio

HOOK_URL = "https://firerunner.example.com/webhook"
GROUP = ("setup", "--group", "group", "--yes")
INSTANCE = ("setup", "--instance", "--yes")


def as_user(stage: Stage, *scopes: str, administrator: bool = False) -> dict[str, str]:
    token = stage.gitlab.world.new_api_token(frozenset(scopes or ("api",)), administrator=administrator)
    return {"GITLAB_TOKEN": token}


def group_of(stage: Stage) -> Group:
    group = stage.gitlab.world.group("group")
    assert group is not None
    return group


def said(ran: Ran) -> str:
    return " ".join((ran.out + ran.err).replace("│", "").split())


async def test_a_runner_and_a_hook_of_a_group(stage: Stage) -> None:
    hooked = (*GROUP, "--hook-group", "group", "--webhook-url", HOOK_URL)

    done = await stage.run(*hooked, environment=as_user(stage))
    again = await stage.run(*hooked, environment=as_user(stage))
    checked = await stage.run("check", "--group", "group", environment=as_user(stage))

    assert (done.status, again.status) == (0, 0), said(done)
    assert "Nothing to do" in again.out
    (runner,), (hook,) = stage.gitlab.world.runners.values(), stage.gitlab.world.hooks.values()
    assert (runner.runner_type, runner.group, runner.project_id) == ("group_type", group_of(stage), None)
    assert (hook.owner, hook.url, hook.job_events) == (group_of(stage), HOOK_URL, True)
    assert checked.status == 0, said(checked)
    pipeline = await stage.gitlab.run_pipeline(stage.project)
    assert [delivery.event for delivery in stage.gitlab.hooks.deliveries][:1] == ["Job Hook"]
    assert stage.gitlab.job("one", pipeline).status == "pending"


async def test_hooks_of_groups_without_premium(stage: Stage) -> None:
    stage.gitlab.behaviour.premium = False

    ran = await stage.run(
        *GROUP, "--hook-group", "group", "--webhook-url", HOOK_URL, environment=as_user(stage)
    )

    assert ran.status == 1
    assert "need GitLab Premium" in said(ran)
    assert "--hook-project PATH" in said(ran)
    assert stage.gitlab.world.runners == {}


async def test_a_runner_of_the_instance_with_hooks_of_a_project(stage: Stage) -> None:
    hooked = (*INSTANCE, "--hook-project", "group/app", "--webhook-url", HOOK_URL)

    refused = await stage.run(*hooked, environment=as_user(stage))
    nothing = dict(stage.gitlab.world.runners)
    done = await stage.run(*hooked, environment=as_user(stage, administrator=True))

    assert refused.status == 1
    assert "administrator" in said(refused)
    assert nothing == {}
    assert done.status == 0, said(done)
    (runner,) = stage.gitlab.world.runners.values()
    assert (runner.runner_type, runner.group, runner.project_id) == ("instance_type", None, None)


@pytest.mark.parametrize("scopes", [("read_api",), ("create_runner",), ("read_user",)])
async def test_a_token_with_too_little_is_told_before_anything_is_done(
    stage: Stage, scopes: tuple[str, ...]
) -> None:
    ran = await stage.run(*GROUP, environment=as_user(stage, *scopes))

    assert ran.status == 2
    assert f"lacks the scope `api` (it has: {scopes[0]})" in said(ran)
    assert "revoke it afterwards" in said(ran)
    assert stage.gitlab.world.runners == {}


async def test_a_group_that_is_not_there(stage: Stage) -> None:
    ran = await stage.run("setup", "--group", "nobody", "--yes", environment=as_user(stage))

    assert ran.status == 1
    assert "404 Group Not Found" in said(ran)


async def test_a_gitlab_that_does_not_sign_gets_the_secret_token_only(stage: Stage) -> None:
    stage.gitlab.behaviour.signs_hooks = False
    stage.more["webhook_signing_token_file"] = "signing"
    hooked = ("setup", "--project", "group/app", "--yes", "--webhook-url", HOOK_URL)

    done = await stage.run(*hooked, environment=as_user(stage))
    checked = await stage.run("check", "--project", "group/app", environment=as_user(stage))

    assert done.status == 0
    assert "does not sign" in said(done)
    (hook,) = stage.gitlab.world.hooks.values()
    assert (hook.signing_key, bool(hook.token)) == (None, True)
    assert checked.status == 1
    assert "take webhook_signing_token_file out" in said(checked)


async def test_gitlabs_test_reaches_the_service(stage: Stage, tmp_path: Path) -> None:
    """Set-up writes the secrets, the service reads them, GitLab's test comes in and is counted."""
    web = free_port()
    url = f"http://127.0.0.1:{web}/webhook"
    hooked = ("setup", "--project", "group/app", "--yes", "--webhook-url", url)
    listen = {"web": f"127.0.0.1:{web}", "gate": f"127.0.0.1:{free_port()}"}
    stage.more["webhook_signing_token_file"] = "signing"
    stage.top["listen"] = listen
    assert (await stage.run(*hooked, environment=as_user(stage))).status == 0
    test = ("check", "--project", "group/app", "--send-test", "--json")

    none_yet = await stage.run(*test, environment=as_user(stage))
    await stage.gitlab.run_pipeline(stage.project)
    nobody = await stage.run(*test, environment=as_user(stage))
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "firerunner", "serve", "--config", str(stage.config)),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            while b"serving" not in await service.stderr.readline():  # type: ignore[union-attr]
                pass
        arrived = await stage.run(*test, environment=as_user(stage))
        (hook,) = stage.gitlab.world.hooks.values()
        hook.token, hook.signing_key = "another", None
        refused = await stage.run(*test, environment=as_user(stage))
    finally:
        service.kill()
        await service.wait()

    last = [json.loads(ran.out)[-1] for ran in (none_yet, nobody, arrived, refused)]
    assert [finding["level"] for finding in last] == ["skip", "fail", "ok", "fail"]
    assert "has arrived" in last[2]["what"]
    assert "401" in last[3]["what"]
