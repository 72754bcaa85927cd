"""Runs the fake GitLab as a program: prints one JSON line when it is ready, ends at SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
from pathlib import Path

from firerunner.fakes.gitlab.control_api import PREFIX, ControlApi
from firerunner.fakes.gitlab.server import FakeGitLab

STUCK_CHECK_S = 300.0


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m firerunner.fakes.gitlab",
        description="A fake GitLab for demos and tests, with control endpoints under /-/fake/.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 for a free one (default)")
    parser.add_argument("--external-url", help="what it calls itself; PORT stands for the port it got")
    parser.add_argument("--data", type=Path, required=True, help="folder for repositories and artifacts")
    asyncio.run(_serve(parser.parse_args()))


def _epilog() -> str:
    lines = [
        "example: python -m firerunner.fakes.gitlab --data /tmp/gitlab --external-url http://gitlab.test:PORT",
        "",
        "control endpoints (no authentication):",
    ]
    for route in ControlApi(FakeGitLab(Path())).routes():
        method = next(iter((route.methods or set()) - {"HEAD"}))
        about = (route.endpoint.__doc__ or "").partition("\n")[0]
        lines.append(f"  {method:6} {route.path.replace(':int', ''):36} {about}")
    return "\n".join(lines)


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gitlab = FakeGitLab(
        arguments.data,
        host=arguments.host,
        port=arguments.port,
        external_url=arguments.external_url,
        control=True,
    )
    async with gitlab:
        ready = {
            "url": gitlab.url,
            "external_url": gitlab.external_url,
            "control_url": f"{gitlab.url}{PREFIX}",
            "api_token": gitlab.api_token,
        }
        print(json.dumps(ready), flush=True)
        while not stop.is_set():
            gitlab.drop_stuck_jobs()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), STUCK_CHECK_S)


if __name__ == "__main__":
    main()
