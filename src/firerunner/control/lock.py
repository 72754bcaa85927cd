"""One controller for one state directory: a lock that the kernel drops when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from firerunner.errors import NotLeader


@contextmanager
def only_controller(state_dir: Path) -> Iterator[None]:
    """Hold the state directory's lock. Raises NotLeader, naming the process that has it."""
    path = state_dir / "controller.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            raise NotLeader(
                f"another controller works in {state_dir} (process {holder})",
                remedy="Stop it first, or use another state_dir",
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)
