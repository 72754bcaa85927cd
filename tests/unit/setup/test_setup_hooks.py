"""Set-up makes the webhook with its secrets and its two events, and puts right what has drifted."""

from __future__ import annotations

import pytest

from firerunner.errors import CallRefused
from firerunner.fakes.gitlab.webhooks import signing_key
from firerunner.gitlab import Scope
from firerunner.setup.deciding import Action
from firerunner.setup.wishes import Options

from .setup_given import HOOK_URL, Stage

pytestmark = pytest.mark.anyio

HOOKED = Options(webhook_url=HOOK_URL)


async def set_up(stage: Stage, options: Options = HOOKED) -> None:
    outcome = await stage.set_up(options, hooks=[stage.scope])
    assert outcome.error is None


async def test_the_hook_knows_the_secrets_that_are_written(stage: Stage) -> None:
    stage.more["webhook_signing_token_file"] = "signing"

    await set_up(stage)

    (hook,) = stage.gitlab.world.hooks.values()
    assert (hook.owner, hook.url) == (stage.project, HOOK_URL)
    assert (hook.job_events, hook.pipeline_events) == (True, True)
    assert hook.token == stage.secret("hook-secret").read_text().strip()
    assert hook.signing_key == signing_key(stage.secret("signing").read_text().strip())
    assert stage.secret("hook-secret").stat().st_mode & 0o777 == 0o600
    assert stage.secret("signing").stat().st_mode & 0o777 == 0o600


async def test_doing_it_again_changes_nothing(stage: Stage) -> None:
    await set_up(stage)
    secret = stage.secret("hook-secret").read_text()

    _, step = await stage.plan(HOOKED, hooks=[stage.scope])
    await set_up(stage)

    assert step.action is Action.UNCHANGED
    assert stage.secret("hook-secret").read_text() == secret
    assert len(stage.gitlab.world.hooks) == 1


async def test_a_hook_that_has_drifted_is_put_right(stage: Stage) -> None:
    await set_up(stage)
    (hook,) = stage.gitlab.world.hooks.values()
    hook.job_events, hook.token = False, None

    _, step = await stage.plan(HOOKED, hooks=[stage.scope])
    await set_up(stage)

    assert step.action is Action.UPDATE
    assert step.changes == {"job_events": (False, True)}
    assert hook.job_events
    assert hook.token == stage.secret("hook-secret").read_text().strip()


async def test_a_new_secret_is_told_to_the_hook_that_is_there(stage: Stage) -> None:
    await set_up(stage)
    stage.secret("hook-secret").unlink()

    await set_up(stage)

    (hook,) = stage.gitlab.world.hooks.values()
    assert hook.token == stage.secret("hook-secret").read_text().strip()


async def test_secrets_are_told_again_on_request(stage: Stage) -> None:
    await set_up(stage)
    (hook,) = stage.gitlab.world.hooks.values()
    hook.token = "another"

    await set_up(stage, Options(webhook_url=HOOK_URL, resend_secrets=True))

    assert hook.token == stage.secret("hook-secret").read_text().strip()


async def test_hooks_of_groups_need_a_licence(stage: Stage) -> None:
    stage.gitlab.misbehave(".*/groups/9/hooks", status=403, body='{"message":"no"}')

    with pytest.raises(CallRefused) as refused:
        await stage.plan(HOOKED, hooks=[Scope("group", 9, "group")])

    assert "Premium" in refused.value.remedy
