"""The image's gitlab-runner: given, released by GitLab and checked, or the stand-in and said so."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.openpgp import Signer, signer

from firerunner.errors import ImageError
from firerunner.images import RunnerKind, RunnerWish, find_runner, given_runner, stand_in_runner
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
        self.signature: bytes | None = None

    def wish(self, **more: Any) -> RunnerWish:
        return RunnerWish(version="v1", releases=self.url, **more)

    async def answer(self, request: Request) -> Response:
        found = {"/v1/release.sha256": self.sums.encode(), f"/v1/binaries/{BINARY}": BINARY_TEXT}
        if self.signature is not None:
            found["/v1/release.sha256.asc"] = self.signature
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

    runner = await find_runner(tmp_path, {}, given=given, wish=RunnerWish(releases=nobody))

    assert (runner.kind, runner.version, runner.path) == (RunnerKind.OFFICIAL, "19.9.9", given)
    assert runner.sha256 == hashlib.sha256(BINARY_TEXT).hexdigest()


async def test_the_environment_names_a_binary_too(tmp_path: Path, nobody: str) -> None:
    given = binary(tmp_path / "mine")

    runner = await find_runner(tmp_path, {ENVIRONMENT_VARIABLE: str(given)}, wish=RunnerWish(releases=nobody))

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
    runner = await find_runner(tmp_path, {}, wish=releases.wish(), stand_in=False)

    assert (runner.kind, runner.version) == (RunnerKind.OFFICIAL, "19.9.9")
    assert runner.path.read_bytes() == BINARY_TEXT


async def test_a_wrong_checksum_is_an_error_and_not_the_stand_in(tmp_path: Path, releases: Releases) -> None:
    releases.sums = f"{'b' * 64} *binaries/{BINARY}\n"

    with pytest.raises(ImageError, match=f"GitLab's list says {'b' * 64}"):
        await find_runner(tmp_path, {}, wish=releases.wish())

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
        wish=RunnerWish(version=version, releases=address),
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


@pytest.mark.parametrize("version", ["v1", "v-none"])
async def test_no_image_for_production_is_made_without_the_release(
    tmp_path: Path, nobody: str, releases: Releases, version: str
) -> None:
    address = {"v1": nobody, "v-none": releases.url}[version]

    with pytest.raises(
        ImageError, match=f"gitlab-runner {version} cannot be fetched from {address}"
    ) as raised:
        await find_runner(tmp_path, {}, wish=RunnerWish(version=version, releases=address), stand_in=False)

    assert "--runner-binary" in raised.value.remedy
    assert list(tmp_path.iterdir()) == []


async def test_a_demanded_checksum_holds_for_every_source_and_against_the_stand_in(
    tmp_path: Path, nobody: str, releases: Releases
) -> None:
    given = binary(tmp_path / "mine")

    with pytest.raises(ImageError, match=f"{'b' * 64} is demanded"):
        await find_runner(tmp_path, {}, given=given, wish=RunnerWish(sha256="b" * 64))
    with pytest.raises(ImageError, match=f"{'b' * 64} is demanded"):
        await find_runner(tmp_path, {}, wish=releases.wish(sha256="b" * 64))
    with pytest.raises(ImageError, match="cannot be fetched"):
        await find_runner(tmp_path, {}, wish=RunnerWish(releases=nobody, sha256="b" * 64))


@pytest.fixture(scope="module")
def gitlab() -> Iterator[Signer]:
    with signer() as made:
        yield made


def key_file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


async def test_a_list_signed_with_the_demanded_key_is_taken(
    tmp_path: Path, releases: Releases, gitlab: Signer
) -> None:
    key = key_file(tmp_path / "gitlab.asc", gitlab.public_key())
    releases.signature = gitlab.detached(releases.sums.encode())

    runner = await find_runner(tmp_path, {}, wish=releases.wish(key=key), stand_in=False)

    assert runner.version == "19.9.9"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gitlab-runner", "gitlab.asc"]


async def test_a_list_that_nobody_or_another_has_signed_is_refused(
    tmp_path: Path, releases: Releases, gitlab: Signer
) -> None:
    key = key_file(tmp_path / "gitlab.asc", gitlab.public_key())
    wish = releases.wish(key=key)

    with pytest.raises(ImageError, match=r"release\.sha256\.asc"):
        await find_runner(tmp_path, {}, wish=wish)

    releases.signature = gitlab.detached(releases.sums.encode() + b"more")
    with pytest.raises(ImageError, match="BAD signature") as raised:
        await find_runner(tmp_path, {}, wish=wish)
    assert "has not signed this list" in raised.value.remedy

    with signer() as somebody:
        releases.signature = somebody.detached(releases.sums.encode())
    with pytest.raises(ImageError, match="Can't check signature: No public key"):
        await find_runner(tmp_path, {}, wish=wish)


async def test_a_key_that_is_none_is_said(tmp_path: Path, releases: Releases) -> None:
    releases.signature = b"x"

    with pytest.raises(ImageError, match="gone cannot be read"):
        await find_runner(tmp_path, {}, wish=releases.wish(key=tmp_path / "gone"))
    broken = key_file(tmp_path / "broken", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!\n")
    with pytest.raises(ImageError, match="public key cannot be read"):
        await find_runner(tmp_path, {}, wish=releases.wish(key=broken))
