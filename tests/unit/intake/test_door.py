"""The webhook's door: who gets in, what a hook can do, and what is answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from door_given import JOB_HOOK, PIPELINE_HOOK, SECRET, Given, gitlab
from structlog.testing import capture_logs

from firerunner.intake import Hook
from firerunner.settings import WebhookSettings

pytestmark = pytest.mark.anyio


@pytest.fixture
def given() -> Given:
    given = Given()
    given.configure(gitlab(secret="s3cret"), max_body=16_384)
    return given


async def test_gitlab_s_job_hook_wakes(given: Given) -> None:
    answer = await given.post(JOB_HOOK, SECRET | {"X-Gitlab-Event": "Job Hook"})

    assert answer.status_code == 200
    assert given.woken == [Hook("build", 380, True, ("gitlab",))]
    assert given.counted == ["woke"]


async def test_gitlab_s_pipeline_hook_wakes(given: Given) -> None:
    answer = await given.post(PIPELINE_HOOK, SECRET | {"X-Gitlab-Event": "Pipeline Hook"})

    assert answer.status_code == 200
    assert given.woken == [Hook("pipeline", 380, True, ("gitlab",))]


async def test_hooks_of_groups_and_system_hooks_are_the_same_to_us(given: Given) -> None:
    for event in ("Job Hook", "System Hook"):
        answer = await given.post(JOB_HOOK, SECRET | {"X-Gitlab-Event": event})

        assert answer.status_code == 200
    assert len(given.woken) == 2


@pytest.mark.parametrize("status", ["success", "failed", "canceled", "skipped", "manual", "from_the_future"])
async def test_what_means_no_work_is_accepted_and_wakes_nobody(given: Given, status: str) -> None:
    answer = await given.post(JOB_HOOK | {"build_status": status}, SECRET)

    assert answer.status_code == 200
    assert given.woken == []
    assert given.counted == ["ignored"]


@pytest.mark.parametrize("token", ["", "s3cre", "s3cret1", "S3CRET", "s3cret, s3cret"])
async def test_a_wrong_secret_is_refused(given: Given, token: str) -> None:
    answer = await given.post(JOB_HOOK, {"X-Gitlab-Token": token})

    assert answer.status_code == 401
    assert given.woken == []
    assert given.counted == ["unauthenticated"]


async def test_a_missing_secret_is_refused(given: Given) -> None:
    answer = await given.post(JOB_HOOK)

    assert answer.status_code == 401
    assert given.woken == []


async def test_a_secret_given_twice_is_refused(given: Given) -> None:
    answer = await given.post(JOB_HOOK, [("X-Gitlab-Token", "s3cret"), ("X-Gitlab-Token", "s3cret")])

    assert answer.status_code == 401


async def test_a_secret_of_any_letters_is_compared_as_bytes(given: Given) -> None:
    given.configure(gitlab(secret="gehe\u00efm"))

    answer = await given.post(JOB_HOOK, [(b"X-Gitlab-Token", "gehe\u00efm".encode())])

    assert answer.status_code == 200


async def test_a_user_in_the_hook_s_address_is_ignored(given: Given) -> None:
    answer = await given.post(JOB_HOOK, SECRET | {"Authorization": "Basic dXNlcjpwYXNzd29yZA=="})

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"object_kind": 4}',
        b"[" * 10_000,
        b'{"object_kind": "build", "project_id": ' + b"9" * 5_000 + b"}",
        json.dumps({"object_kind": "note"}).encode(),
        json.dumps(JOB_HOOK | {"project_id": {"a": 1}}).encode(),
        json.dumps(JOB_HOOK | {"build_status": None}).encode(),
    ],
)
async def test_an_authentic_hook_gets_2xx_whatever_is_in_it(given: Given, body: bytes) -> None:
    answer = await given.post(body, SECRET)

    assert answer.status_code == 200
    assert given.woken == []


async def test_an_authentic_hook_gets_2xx_whatever_we_are_doing() -> None:
    def stopping(hook: Hook) -> None:
        raise RuntimeError("stopping")

    given = Given(wake=stopping)
    given.configure(gitlab(secret="s3cret"))

    answer = await given.post(JOB_HOOK, SECRET)

    assert answer.status_code == 200
    assert given.counted == ["not_woken"]


async def test_two_secrets_are_valid_while_rotating(given: Given) -> None:
    given.configure(gitlab(secret="new", secret_old="s3cret"))

    answers = [await given.post(JOB_HOOK, {"X-Gitlab-Token": token}) for token in ("new", "s3cret", "older")]

    assert [answer.status_code for answer in answers] == [200, 200, 401]


async def test_new_settings_are_in_force_from_the_next_request_on(given: Given) -> None:
    given.configure(gitlab(secret="changed"))

    assert (await given.post(JOB_HOOK, SECRET)).status_code == 401
    assert (await given.post(JOB_HOOK, {"X-Gitlab-Token": "changed"})).status_code == 200


async def test_each_gitlab_wakes_its_own_pools() -> None:
    given = Given()
    given.configure(gitlab("one", secret="a"), gitlab("two", secret="b"), gitlab("twin", secret="b"))

    await given.post(JOB_HOOK, {"X-Gitlab-Token": "a"})
    await given.post(JOB_HOOK, {"X-Gitlab-Token": "b"})

    assert [hook.gitlab for hook in given.woken] == [("one",), ("two", "twin")]


async def test_without_any_secret_the_door_is_closed_and_says_how_to_open_it() -> None:
    given = Given()
    given.configure(gitlab())

    answer = await given.post(JOB_HOOK, SECRET)

    assert answer.status_code == 403
    assert "webhook_secret" in answer.json()["message"]
    assert given.woken == []
    assert given.counted == ["closed"]


async def test_before_it_is_configured_the_door_is_closed() -> None:
    assert (await Given().post(JOB_HOOK)).status_code == 403


async def test_insecure_must_be_said_and_then_wakes_all() -> None:
    given = Given()
    given.configure(gitlab("one"), gitlab("two"), insecure=True)

    answer = await given.post(JOB_HOOK)

    assert answer.status_code == 200
    assert [hook.gitlab for hook in given.woken] == [("one", "two")]


async def test_insecure_does_not_open_a_gitlab_that_has_a_secret() -> None:
    given = Given()
    given.configure(gitlab("known", secret="s3cret"), gitlab("unknown"), insecure=True)

    await given.post(JOB_HOOK)
    await given.post(JOB_HOOK, SECRET)
    given.configure(gitlab("known", secret="s3cret"), insecure=True)
    refused = await given.post(JOB_HOOK)

    assert [hook.gitlab for hook in given.woken] == [("unknown",), ("known", "unknown")]
    assert refused.status_code == 401


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_told_what_this_is_for(given: Given, method: str) -> None:
    answer = await given.post(b"", SECRET, method=method)

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert method == "HEAD" or "Job and Pipeline hooks" in answer.json()["message"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip", "GZIP"])
async def test_a_compressed_body_is_refused(given: Given, encoding: str) -> None:
    answer = await given.post(b"x", SECRET | {"Content-Encoding": encoding})

    assert answer.status_code == 415
    assert given.counted == ["compressed"]


async def test_a_body_that_says_it_is_too_large_is_refused(given: Given) -> None:
    answer = await given.post(b"x" * 16_385, SECRET)

    assert answer.status_code == 413
    assert "webhook.max_body" in answer.json()["message"]


async def test_a_body_without_a_length_is_refused_while_it_is_read(given: Given) -> None:
    async def long() -> AsyncIterator[bytes]:
        for _ in range(1024):
            yield b"x" * 1024

    answer = await given.post(long(), SECRET)

    assert answer.status_code == 413
    assert given.counted == ["too_large"]


async def test_a_stranger_s_body_is_not_waited_for(given: Given) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b"x" * 65_536

    answer = await given.post(endless())

    assert answer.status_code == 401
    assert sent < 2 * 1024 * 1024


async def test_a_refusal_is_logged_once_for_each_client_and_holds_no_secret(given: Given) -> None:
    with capture_logs() as lines:
        for _ in range(3):
            await given.post(JOB_HOOK, {"X-Gitlab-Token": "guessed-wrong"}, peer="192.0.2.1")
        await given.post(JOB_HOOK, peer="192.0.2.2")

    assert [(line["client"], line["gitlab"]) for line in lines] == [
        ("192.0.2.1", {"gitlab": "secret token wrong"}),
        ("192.0.2.2", {"gitlab": "secret token missing"}),
    ]
    assert not any(word in str(lines) for word in ("s3cret", "guessed-wrong"))


async def test_a_hook_without_a_project_still_wakes(given: Given) -> None:
    body: dict[str, Any] = {"object_kind": "pipeline", "object_attributes": {"status": "pending"}}

    await given.post(body, SECRET)

    assert given.woken == [Hook("pipeline", None, True, ("gitlab",))]


def test_the_settings_that_nobody_set_are_those_of_the_page() -> None:
    settings = WebhookSettings()

    assert (settings.max_body, settings.body_timeout, settings.failures_per_minute) == (
        10 * 1024 * 1024,
        10,
        10,
    )
