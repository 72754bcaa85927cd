"""The HTTP client: nothing of the environment, nothing kept between jobs."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from gitlab_given import answer, nobody, playing

from firerunner.errors import SettingsError
from firerunner.gitlab import new_http

pytestmark = pytest.mark.anyio


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with nobody() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        async with playing(answer(204)) as player, new_http() as http:
            response = await http.get(player.url)

    assert response.status_code == 204


async def test_cookies_are_never_kept() -> None:
    async with playing(answer(200, Set_Cookie="a=b"), answer(200)) as player, new_http() as http:
        await http.get(player.url)
        await http.get(player.url)

    assert "cookie" not in player.heard[1].head.lower()


async def test_a_ca_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.write_text("no certificate")

    with pytest.raises(SettingsError, match=r"ca\.pem"):
        new_http(ca_file=empty)
    with pytest.raises(SettingsError, match="missing"):
        new_http(ca_file=tmp_path / "missing")


async def test_the_proxy_that_is_given_is_asked_with_its_password() -> None:
    async with playing(answer(204)) as proxy:
        given = proxy.url.replace("http://", "http://user:secret@")
        async with new_http(proxy=given) as http:
            response = await http.get("http://gitlab.example.com/api/v4/version")

    assert response.status_code == 204
    assert proxy.heard[0].head.startswith("GET http://gitlab.example.com/api/v4/version ")
    assert "proxy-authorization: basic dxnlcjpzzwnyzxq=" in proxy.heard[0].head.lower()


async def test_a_server_that_does_not_read_is_given_up() -> None:
    async def for_ever() -> AsyncIterator[bytes]:
        while True:
            yield bytes(65536)

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        async with new_http() as http:
            with pytest.raises(httpx.WriteTimeout):
                await http.post(url, content=for_ever(), timeout=httpx.Timeout(30, write=0.2))


async def test_what_breaks_a_body_off_is_what_its_sender_sees() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"begun"
        raise LookupError("the guest hung up")

    async with playing(answer(200)) as player, new_http() as http:
        with pytest.raises(LookupError, match="hung up"):
            await http.post(player.url, content=broken())
