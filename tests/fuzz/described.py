"""Schemathesis goes through the operators' API as it describes itself, over the wire."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.fuzz.items import Facts

MAX_EXAMPLES = 100
TIMEOUT_S = 180.0


async def described(facts: Facts, seed: int) -> str | None:
    """What is wrong, or None. It may operate: what it makes up is nobody's machine and no host."""
    program = Path(sys.executable).with_name("schemathesis")
    with tempfile.TemporaryDirectory(prefix="firerunner-fuzz-") as folder:
        process = await asyncio.create_subprocess_exec(
            *[str(program), "run", f"http://127.0.0.1:{facts.web}/api/v1/openapi.json"],
            *["--header", f"Authorization: Bearer {facts.operate_token}", "--checks", "not_a_server_error"],
            *["--max-examples", str(MAX_EXAMPLES), "--seed", str(seed), "--no-color"],
            cwd=folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode != 0:
        return f"schemathesis: {said.decode(errors='replace')[-3000:]}"
    return None
