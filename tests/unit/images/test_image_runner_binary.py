"""The image's gitlab-runner: given, released by GitLab and checked, or the stand-in and said so."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from firerunner.errors import ImageError
from firerunner.images import RunnerKind, find_runner, given_runner, stand_in_runner
from firerunner.images.runner_binary import BINARY, ENVIRONMENT_VARIABLE, checksum
from firerunner.serving import served

pytestmark = pytest.mark.anyio

BINARY_TEXT = b"#!/bin/sh\necho 'Version:      19.9.9'\n"


class Releases:
    """GitLab's release address, on loopback."""

    def __init__(self) -> None:
        self.url = ""
        digest = hashlib.sha256(BINARY_TEXT).hexdigest()
        self.sums = f"{'a' * 64} *binaries/{BINARY}-fips\n{digest} *binaries/{BINARY}\n"

    async def answer(self, request: Request) -> Response:
        found = {"/v1/release.sha256": self.sums.encode(), f"/v1/binaries/{BINARY}": BINARY_TEXT}
        content = found.get(request.url.path)
        return Response(status_code=404) if content is None else Response(content)


@pytest.fixture
async def releases() -> AsyncIterator[Releases]:
    handle = Releases()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        handle.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = Starlette(routes=[Route("/{path:path}", handle.answer)])
        async with served(app, listener):
            yield handle


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def binary(path: Path, text: bytes = BINARY_TEXT) -> Path:
    path.write_bytes(text)
    path.chmod(0o755)
    return path


async def test_a_given_binary_is_taken_without_asking_anybody(tmp_path: Path, nobody: str) -> None:
    given = binary(tmp_path / "mine")

    runner = await find_runner(tmp_path, {}, given=given, releases=nobody)

    assert (runner.kind, runner.version, runner.path) == (RunnerKind.OFFICIAL, "19.9.9", given)
    assert runner.sha256 == hashlib.sha256(BINARY_TEXT).hexdigest()


async def test_the_environment_names_a_binary_too(tmp_path: Path, nobody: str) -> None:
    given = binary(tmp_path / "mine")

    runner = await find_runner(tmp_path, {ENVIRONMENT_VARIABLE: str(given)}, releases=nobody)

    assert runner.path == given


@pytest.mark.parametrize(
    ("text", "said"),
    [(b"#!/bin/sh\necho hello\n", "does not name a version"), (b"#!/bin/sh\nexit 3\n", "status 3")],
)
async def test_a_given_binary_that_is_none_is_not_replaced(tmp_path: Path, text: bytes, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        await find_runner(tmp_path, {}, given=binary(tmp_path / "mine", text))


async def test_a_given_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="/nothing cannot be read: No such file"):
        await given_runner(tmp_path / "nothing")


async def test_the_release_is_taken_when_its_checksum_is_right(tmp_path: Path, releases: Releases) -> None:
    runner = await find_runner(tmp_path, {}, version="v1", releases=releases.url)

    assert (runner.kind, runner.version) == (RunnerKind.OFFICIAL, "19.9.9")
    assert runner.path.read_bytes() == BINARY_TEXT


async def test_a_wrong_checksum_is_an_error_and_not_the_stand_in(tmp_path: Path, releases: Releases) -> None:
    releases.sums = f"{'b' * 64} *binaries/{BINARY}\n"

    with pytest.raises(ImageError, match=f"GitLab's list says {'b' * 64}"):
        await find_runner(tmp_path, {}, version="v1", releases=releases.url)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", ["v1", "v-none"])
async def test_without_a_release_the_stand_in_is_used_and_said_loudly(
    tmp_path: Path, nobody: str, releases: Releases, version: str
) -> None:
    said: list[str] = []
    address = {"v1": nobody, "v-none": releases.url}[version]

    runner = await find_runner(
        tmp_path,
        {},
        version=version,
        releases=address,
        progress=lambda _, text, fraction=None: said.append(text),
    )

    assert runner.kind is RunnerKind.STAND_IN
    assert address in said[-2]
    assert "STAND-IN" in said[-1]


async def test_the_stand_in_is_known_as_such_also_when_it_is_given(tmp_path: Path) -> None:
    stand_in = await stand_in_runner(tmp_path)

    assert (await given_runner(stand_in.path)).kind is RunnerKind.STAND_IN


def test_a_list_without_our_binary_is_an_error() -> None:
    with pytest.raises(ImageError, match="does not name"):
        checksum(f"{'a' * 64} *binaries/gitlab-runner-linux-s390x\n")
