"""External programs fail with their last words and a remedy, and end when they are cancelled."""

from __future__ import annotations

import asyncio
import sys

import pytest

from firerunner.errors import ImageError
from firerunner.images import missing_tools
from firerunner.images.tools import require_tools, run


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.anyio
async def test_output_comes_back_and_line_by_line() -> None:
    lines: list[str] = []

    output = await run(python("print('one'); print(); print('two')"), on_line=lines.append)

    assert output == "one\n\ntwo"
    assert lines == ["one", "two"]


@pytest.mark.anyio
async def test_a_failure_has_the_command_the_last_lines_and_the_remedy() -> None:
    command = python("import sys; [print('line', n) for n in range(99)]; sys.exit(7)")

    with pytest.raises(ImageError) as raised:
        await run(command, remedy="Try something else")

    assert "status 7" in raised.value.message
    assert sys.executable in raised.value.message
    assert raised.value.message.endswith("line 97\nline 98")
    assert "line 3\n" not in raised.value.message
    assert raised.value.remedy == "Try something else"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("tar: x: Cannot write: No space left on device", "disk is full"),
        ("W: Failed to fetch http://x  Could not resolve 'x'", "network"),
    ],
)
async def test_a_known_cause_has_its_own_remedy(said: str, remedy: str) -> None:
    with pytest.raises(ImageError) as raised:
        await run(python(f"import sys; print({said!r}); sys.exit(1)"), remedy="Something general")

    assert remedy in raised.value.remedy


@pytest.mark.anyio
async def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(ImageError, match="no-such-program does not start: No such file"):
        await run(["no-such-program"])


@pytest.mark.anyio
async def test_a_cancel_ends_the_program_and_its_children() -> None:
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True); child.wait()"
    )
    task = asyncio.create_task(run(python(code), on_line=started.set_result))
    child = await started

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    with pytest.raises(ImageError):
        await run(["sh", "-c", f'grep -v "^State:.Z" /proc/{child}/status | grep ^State'])


def test_what_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firerunner.images.tools.search_path", lambda: "/nowhere")

    missing = {tool.tool: tool.package for tool in missing_tools()}

    assert missing["mmdebstrap"] == "mmdebstrap"
    assert missing["mkfs.ext4"] == "e2fsprogs"
    with pytest.raises(ImageError, match=r"mmdebstrap .makes the root file system") as raised:
        require_tools()
    assert raised.value.remedy.startswith("apt-get install ")
    assert "e2fsprogs" in raised.value.remedy
