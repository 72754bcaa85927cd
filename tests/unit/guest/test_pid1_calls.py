"""How process 1 of a guest calls the gate: until it is answered or refused."""

from __future__ import annotations

import asyncio
import shutil
import socket
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from firerunner.guest.scripts import GuestScript
from firerunner.serving import served

pytestmark = pytest.mark.anyio


async def called(tmp_path: Path, *statuses: int) -> tuple[int, int, str]:
    """Exit status, number of calls, and what was said, of one `call` that is answered so, in this order."""
    heard = list(statuses)

    async def answer(_: Request) -> Response:
        return Response("answer", heard.pop(0))

    functions, found, _ = GuestScript.PID1.read().decode().partition("trap reboot_now EXIT\n")
    assert found
    busybox = shutil.which("busybox")
    assert busybox is not None
    (tmp_path / "busybox").symlink_to(busybox)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = Starlette(routes=[Route("/guest/look", answer, methods=["POST"])])
        async with served(app, listener):
            script = tmp_path / "call.sh"
            script.write_text(
                functions.replace("RUN=/run/firerunner\n", f"RUN={tmp_path}\n")
                + f"credential=secret gate_url=http://127.0.0.1:{listener.getsockname()[1]}\n"
                + 'call guest/look "" "$RUN/answer"\n'
            )
            process = await asyncio.create_subprocess_exec(
                busybox, "sh", str(script), stdout=asyncio.subprocess.PIPE
            )
            said, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, len(statuses) - len(heard), said.decode()


async def test_a_gate_that_answers_is_called_once(tmp_path: Path) -> None:
    assert await called(tmp_path, 200) == (0, 1, "")
    assert (tmp_path / "answer").read_text() == "answer"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_gate_that_does_not_answer_now_is_called_again(tmp_path: Path, status: int) -> None:
    code, calls, said = await called(tmp_path, status, 200)

    assert (code, calls) == (0, 2)
    assert f"does not answer now: HTTP/1.1 {status}" in said


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_a_refusal_is_final(tmp_path: Path, status: int) -> None:
    code, calls, said = await called(tmp_path, status, 200)

    assert (code, calls) == (1, 1)
    assert f"the gate refused: HTTP/1.1 {status}" in said
