"""`python -m bench.hook_floor`: the web application with a `/webhook` that answers 200 and does nothing.

Prints its URL as a line of JSON; ends with standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from firerunner.listening import listen
from firerunner.serving import WEB_BOUNDS, served
from firerunner.telemetry import Metrics
from firerunner.web import Readiness, create_web


async def nothing(_request: Request) -> Response:
    """No proof, no limit, no wake."""
    return JSONResponse({"message": "accepted"})


async def ready() -> Readiness:
    """Always."""
    return Readiness(ready=True, reasons={}, pools={})


async def main() -> None:
    """Serve until standard input ends."""
    listener = listen("web", "127.0.0.1:0")
    port = listener.getsockname()[1]
    async with served(create_web(nothing, ready, Metrics()), listener, bounds=WEB_BOUNDS):
        print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
