"""What stands around the service of the pages: the fake GitLab and a fake Flintlock, in a process of its own.

Run as `python -m tests.docs.neighbours FOLDER`; prints one JSON line when they are there, ends when its
standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from firerunner.fakes.flintlock import FakeFlintlock
from firerunner.fakes.gitlab import FakeGitLab

FILES = {".gitlab-ci.yml": "hello:\n  tags: [nobody]\n  script: [echo hello]\n"}


async def main(folder: Path) -> None:
    """Serve until standard input ends."""
    async with FakeGitLab(folder, external_url="http://gitlab.test:PORT") as gitlab, FakeFlintlock() as host:
        project = await gitlab.add_project("group/app", FILES)
        await gitlab.run_pipeline(project)
        ready = {"gitlab": gitlab.url, "api_token": gitlab.api_token, "host": host.address}
        print(json.dumps(ready), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
