"""Set-up makes the webhook with its secrets and its two events, and puts right what has drifted."""

from __future__ import annotations

import json

import pytest

from firerunner.errors import CallRefused, SettingsError
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
    assert (hook.project_id, hook.url) == (stage.project.id, HOOK_URL)
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


async def test_a_gitlab_that_does_not_sign_is_told_with_the_remedy(stage: Stage) -> None:
    stage.more["webhook_signing_token_file"] = "signing"
    old = {"id": 7, "url": HOOK_URL, "job_events": True, "pipeline_events": True}
    stage.gitlab.misbehave(".*/hooks", method="POST", status=201, body=json.dumps(old))

    outcome = await stage.set_up(HOOKED, hooks=[stage.scope])

    assert outcome.error is None
    (warning,) = outcome.warnings
    assert "does not sign" in warning
    assert "take it out" in warning


@pytest.mark.parametrize(("status", "word"), [(403, "Premium"), (404, "--hook-project")])
async def test_hooks_of_groups_need_premium(stage: Stage, status: int, word: str) -> None:
    stage.gitlab.misbehave(".*/groups/9/hooks", status=status, body='{"message":"no"}')

    with pytest.raises(CallRefused) as refused:
        await stage.plan(HOOKED, hooks=[Scope("group", 9, "group")])

    assert word in refused.value.remedy


async def test_a_token_without_the_scope_is_told_before_anything_is_done(stage: Stage) -> None:
    body = json.dumps({"name": "x", "scopes": ["read_api"], "expires_at": None})
    stage.gitlab.misbehave(".*/personal_access_tokens/self", status=200, body=body)

    with pytest.raises(SettingsError, match="lacks the scope `api`"):
        await stage.plan(HOOKED, hooks=[stage.scope])
