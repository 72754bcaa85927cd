"""Who is shown a token may repeat it: it does not come back into our log, journal and answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import pytest

from firerunner.errors import FireRunnerError
from firerunner.fakes.flintlock import FakeFlintlock
from firerunner.gitlab import JobClient, RestClient, RunnerClient, RunnersClient
from firerunner.hiding import without
from firerunner.machines.flintlock.channel import Endpoint
from firerunner.machines.flintlock.client import FlintlockClient

TOKEN = "canary-token-0123456789"


@pytest.mark.parametrize(
    "form", [TOKEN, "Y2FuYXJ5LXRva2VuLTAxMjM0NTY3ODk=", f"b'{TOKEN}'", f"https://x:{TOKEN}@y"]
)
def test_what_was_shown_goes_out_of_what_comes_back(form: str) -> None:
    text = without(f"403 {form} is wrong", [TOKEN, None, ""])

    assert "***" in text
    assert TOKEN not in text
    assert "Y2FuYXJ5" not in text


def test_a_secret_with_another_in_it_goes_as_a_whole_and_a_short_one_spoils_no_words() -> None:
    assert without(f"{TOKEN}-longer", [TOKEN, f"{TOKEN}-longer"]) == "***"
    assert without("a job of a pool", ["a"]) == "a job of a pool"
    assert without("canary%2Fone and canary\\none", ["canary/one", "canary\none"]) == "*** and ***"


def echoing(status: int) -> httpx.AsyncClient:
    """GitLab repeats every header in its error's text, after so many words that a cut would go through it."""

    def answer(request: httpx.Request) -> httpx.Response:
        shown = " ".join(f"{name}={value}" for name, value in request.headers.items() if "token" in name)
        return httpx.Response(status, json={"message": f"{'x' * 270} {shown}"})

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


Call = Callable[[httpx.AsyncClient], Any]
CALLS: dict[str, Call] = {
    "ask": lambda http: RunnerClient("http://g", http).ask(TOKEN, "s_x", {}),
    "keep": lambda http: JobClient("http://g", http).keep(7, TOKEN),
    "verify": lambda http: RunnersClient("http://g", http).verify(TOKEN, "s_x", tries=1),
    "delete": lambda http: RunnersClient("http://g", http).delete_manager(TOKEN, "s_x", tries=1),
}


@pytest.mark.anyio
@pytest.mark.parametrize("status", [400, 403, 422, 500])
@pytest.mark.parametrize("call", CALLS)
async def test_gitlab_repeats_a_token(call: str, status: int) -> None:
    async with echoing(status) as http:
        try:
            said = repr(await CALLS[call](http))
        except FireRunnerError as error:
            said = f"{error}"

    assert "canary" not in said, said


@pytest.mark.anyio
@pytest.mark.parametrize("status", [401, 403, 500])
async def test_gitlabs_rest_api_repeats_a_token(status: int) -> None:
    async with Repeating(status) as url:
        rest = RestClient(url, TOKEN)
        for call in (rest.token, lambda: rest.runner_of(f"{TOKEN}-of-a-runner")):
            try:
                said = str(await call())
            except FireRunnerError as error:
                said = str(error)
            assert "canary" not in said, said
        await rest.aclose()


@pytest.mark.anyio
async def test_flintlock_repeats_a_token() -> None:
    async with FakeFlintlock() as fake:
        fake.misbehave("ListMicroVMs", code=grpc.StatusCode.UNAUTHENTICATED, text=f"{TOKEN} is wrong")
        client = FlintlockClient(Endpoint(fake.address, None, TOKEN))
        with pytest.raises(FireRunnerError) as error:
            await client.list("firerunner")
        await client.aclose()

    assert "canary" not in str(error.value)


class Repeating:
    """A server that repeats the head of each request in its answer."""

    def __init__(self, status: int) -> None:
        self._status = status

    async def __aenter__(self) -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(x.split(b":")[1]) for x in head.lower().split(b"\r\n") if b"content-length" in x), 0
            )
            shown = " ".join((head + await reader.readexactly(length)).decode().split())
            body = json.dumps({"message": shown[-290:]}).encode()
            writer.write(
                b"HTTP/1.1 %d No\r\nContent-Type: application/json\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n" % (self._status, len(body)) + body
            )
            await writer.drain()
            writer.close()

        self._server = await asyncio.start_server(serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()
