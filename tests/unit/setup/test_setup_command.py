"""`firerunner gitlab setup` as a process: what it shows, what it asks, its exit status, and its silence."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import sys
import termios

import pytest

from .setup_given import HOOK_URL, PATIENCE_S, Stage

pytestmark = pytest.mark.anyio

LOCAL_MODES = 3
"""Where tcgetattr(3) has them."""

PROJECT = ("setup", "--project", "group/app")
HOOKED = (*PROJECT, "--webhook-url", HOOK_URL)


def token(stage: Stage) -> dict[str, str]:
    return {"GITLAB_TOKEN": stage.gitlab.api_token}


async def test_it_shows_then_does_then_has_nothing_to_do(stage: Stage) -> None:
    shown = await stage.run(*HOOKED, "--tag", "small=linux,small", "--dry-run", environment=token(stage))
    assert shown.status == 0, shown.err
    assert "runner of pool small" in shown.out
    assert "linux, small" in shown.out
    assert "hook of project group/app" in shown.out
    assert "Nothing has been done." in shown.out
    assert stage.gitlab.world.runners == {}
    assert not stage.secret("small.token").exists()

    done = await stage.run(*HOOKED, "--tag", "small=linux,small", "--yes", "--json", environment=token(stage))
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert [step["action"] for step in report["steps"]] == ["create", "create"]
    assert (len(report["done"]), report["left"]) == (2, [])
    (runner,) = stage.gitlab.world.runners.values()
    assert runner.tags == {"linux", "small"}
    secrets = [stage.secret(name).read_text().strip() for name in ("small.token", "hook-secret")]
    assert runner.token == secrets[0]
    for secret in (*secrets, stage.gitlab.api_token):
        assert secret not in shown.out + shown.err + done.out + done.err

    again = await stage.run(*HOOKED, "--yes", environment=token(stage))
    assert again.status == 0
    assert "Nothing to do." in again.out


async def test_without_a_terminal_nobody_agrees(stage: Stage) -> None:
    ran = await stage.run(*PROJECT, environment=token(stage))

    assert ran.status == 2
    assert "Say --yes or --dry-run" in ran.err
    assert stage.gitlab.world.runners == {}


async def test_the_token_may_be_in_a_file(stage: Stage) -> None:
    stage.secret("admin").write_text(stage.gitlab.api_token + "\n")

    ran = await stage.run(*PROJECT, "--dry-run", "--token-file", str(stage.secret("admin")))

    assert ran.status == 0, ran.err


async def test_a_failure_says_what_is_done_and_what_is_left(stage: Stage) -> None:
    stage.gitlab.misbehave(".*/hooks", method="POST", status=422, body='{"message":"Invalid url given"}')

    ran = await stage.run(*HOOKED, "--yes", environment=token(stage))

    assert ran.status == 1
    assert "Done: made runner" in ran.out
    assert "left: hook of project group/app: create" in ran.err
    assert "Outbound requests" in ran.err


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("setup", "--yes"), {"GITLAB_TOKEN": "x"}, "say one of --project PATH"),
        ((*PROJECT, "--group", "g", "--yes"), {"GITLAB_TOKEN": "x"}, "say one of --project PATH"),
        ((*PROJECT, "--yes"), {}, "--token-file"),
        ((*PROJECT, "--yes"), {"GITLAB_TOKEN": "stranger"}, "refuses the API token"),
        ((*PROJECT, "--tag", "smal=x", "--yes"), {"GITLAB_TOKEN": "x"}, "there is no pool 'smal'"),
        ((*PROJECT, "--tag", "small", "--yes"), {"GITLAB_TOKEN": "x"}, "POOL=…"),
        ((*PROJECT, "--access-level", "high", "--yes"), {"GITLAB_TOKEN": "x"}, "none of not_protected"),
        (("setup", "--instance", "--webhook-url", HOOK_URL), {"GITLAB_TOKEN": "x"}, "--hook-project PATH"),
        ((*PROJECT, "--webhook-url", "host/webhook"), {"GITLAB_TOKEN": "x"}, "--webhook-url: expected http"),
        ((*PROJECT, "--json"), {"GITLAB_TOKEN": "x"}, "--json goes with"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    stage: Stage, arguments: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    ran = await stage.run(*arguments, environment=environment)

    assert ran.status in {1, 2}
    assert said in " ".join(ran.err.replace("│", "").split())
    assert stage.gitlab.world.runners == {}


async def test_at_a_terminal_it_asks_for_the_token_without_echo_and_for_consent(stage: Stage) -> None:
    stage.write()
    terminal, inside = pty.openpty()
    os.set_blocking(terminal, False)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "firerunner", "gitlab", *PROJECT, "--config", str(stage.config),
        stdin=inside, stdout=inside, stderr=inside, start_new_session=True,
        env={"PATH": "/usr/bin:/bin", "TERM": "dumb"},
    )  # fmt: skip
    os.close(inside)
    shown = ""

    async def until(word: str) -> None:
        nonlocal shown
        async with asyncio.timeout(PATIENCE_S):
            while word not in shown:
                await asyncio.sleep(0.02)
                with contextlib.suppress(BlockingIOError):
                    shown += os.read(terminal, 65_536).decode()

    async def until_without_echo() -> None:
        """The prompt is there a moment before; what is typed meanwhile is thrown away."""
        async with asyncio.timeout(PATIENCE_S):
            while termios.tcgetattr(terminal)[LOCAL_MODES] & termios.ECHO:
                await asyncio.sleep(0.02)

    try:
        await until("Token for")
        await until_without_echo()
        os.write(terminal, f"{stage.gitlab.api_token}\n".encode())
        await until("[y/N]")
        assert stage.gitlab.world.runners == {}
        os.write(terminal, b"y\n")
        await until("Check it with")
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(terminal)

    assert stage.gitlab.api_token not in shown
    assert len(stage.gitlab.world.runners) == 1
