"""`python -m bench.gate_upstream`: a thin stand-in for GitLab's job calls; prints its URL as a line of JSON.

By the same server as the gate's (`firerunner.serving`), with next to nothing behind it: what is more than
this when the gate is asked is the gate. Ends with standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys

from starlette.types import Receive, Scope, Send

from bench.gate_parts import DOWNLOAD_BYTES, PIECE_BYTES
from firerunner.listening import listen
from firerunner.serving import served

_PIECE = bytes(PIECE_BYTES)


async def upstream(scope: Scope, receive: Receive, send: Send) -> None:
    """Statuses and headers as GitLab gives them."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    match scope["method"]:
        case "PATCH":
            headers = [
                (b"job-status", b"running"),
                (b"range", b"0-%d" % size),
                (b"x-gitlab-trace-update-interval", b"60"),
                (b"content-type", b"application/json"),
                (b"content-length", b"3"),
            ]
            await send({"type": "http.response.start", "status": 202, "headers": headers})
            await send({"type": "http.response.body", "body": b'"0"'})
        case "POST":
            body = json.dumps({"size": size}).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 201, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        case _:
            headers = [
                (b"content-type", b"application/octet-stream"),
                (b"content-length", b"%d" % DOWNLOAD_BYTES),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for _ in range(DOWNLOAD_BYTES // PIECE_BYTES):
                await send({"type": "http.response.body", "body": _PIECE, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def main() -> None:
    """Serve until standard input ends."""
    listener = listen("upstream", "127.0.0.1:0")
    port = listener.getsockname()[1]
    async with served(upstream, listener):
        print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
