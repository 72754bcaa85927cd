"""The API does what its description says, whatever is sent: schemathesis makes it up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, MutableMapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from starlette.types import Message, Receive, Scope, Send
from web_given import CANARIES, OPERATE, READ, Given, bearer, opened

from firerunner.ledger import Ledger

T = TypeVar("T")
MANY = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
FEW = settings(MANY, max_examples=10)


class Elsewhere:
    """The application in a loop and a thread of its own: the ledger is of one loop, schemathesis has many.
    Before `start` there is no ledger, which is enough to be described."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.given = Given(cast(Ledger, None))
        self.given.configure()

    def start(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.given = self._run(_filled(folder)).result(60)

    def close(self) -> None:
        assert self._loop
        self._run(self.given.ledger.aclose()).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        assert self._loop
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application that schemathesis calls."""
        if self._loop is None:
            await self.given.app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        for message in await asyncio.wrap_future(self._run(self._exchange(scope, body))):
            await send(message)

    async def _exchange(self, scope: Scope, body: bytes) -> list[Message]:
        told: list[Message] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            told.append(message)

        await self.given.app(scope, receive, send)
        return told


async def _filled(folder: Path) -> Given:
    it = Given(await opened(folder))
    it.configure(failures_per_minute=1_000_000)
    await it.fill()
    return it


elsewhere = Elsewhere()
described = schemathesis.openapi.from_asgi("/api/v1/openapi.json", elsewhere, headers=bearer(OPERATE))
# The tests give the token themselves, so that a case without one would be taken for one that was let in.
described.config.generation.update(with_security_parameters=False)


@pytest.fixture(scope="module", autouse=True)
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    elsewhere.start(tmp_path_factory.mktemp("api"))
    yield
    elsewhere.close()


@described.parametrize()
@MANY
def test_whatever_is_sent_gets_an_answer_that_is_described(case: Case) -> None:
    answer = case.call_and_validate(headers=bearer(OPERATE))

    assert not any(canary in answer.text for canary in CANARIES)
    assert answer.status_code < 500


@described.parametrize()
@FEW
def test_who_may_only_read_changes_nothing(case: Case) -> None:
    answer = case.call_and_validate(
        headers=bearer(READ),
        excluded_checks=[
            schemathesis.checks.positive_data_acceptance,
            schemathesis.checks.unsupported_method,
        ],
    )

    assert case.method == "GET" or answer.status_code in {401, 403, 405}
