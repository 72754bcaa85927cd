"""Files that hold one secret: read, made, replaced at once, never readable by others."""

from __future__ import annotations

import base64
import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from firerunner.errors import FireRunnerError

MODE = 0o600
KEPT_MODE = 0o640
"""Of a file that is there, owner and group may keep what they had."""
SHARED_MODE = 0o640
"""Of a new file in a directory with the set-group-ID bit: it gets that group, which is the service's."""


def read_secret(path: Path) -> str | None:
    """What is in the file; None if it is missing or empty. Raises FireRunnerError."""
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n") or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise FireRunnerError(f"cannot read {path}: {error}", remedy="Run as a user who may") from error


def require_writable(path: Path) -> None:
    """Raises FireRunnerError if `write_secret` would not work; tried before GitLab makes a secret."""
    target = path.resolve()
    try:
        handle, scratch = _scratch(target)
        os.close(handle)
        Path(scratch).unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def write_secret(path: Path, text: str) -> None:
    """Replace the file's content at once; its owner, group and their rights stay. Raises FireRunnerError."""
    target = path.resolve()
    try:
        handle, scratch = _scratch(target)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                _be_like(target, file.fileno())
                os.fsync(file.fileno())
            Path(scratch).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(scratch).unlink()
            raise
        _sync_directory(target.parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def new_webhook_secret() -> str:
    """A secret token for a hook: 256 random bits."""
    return secrets.token_hex(32)


def new_signing_token() -> str:
    """A signing token as GitLab makes them: `whsec_` and the base64 of 32 random bytes."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def _scratch(target: Path) -> tuple[int, str]:
    return tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # mode 0600


def _be_like(target: Path, handle: int) -> None:
    try:
        there = target.stat()
    except FileNotFoundError:
        os.fchmod(handle, SHARED_MODE if target.parent.stat().st_mode & stat.S_ISGID else MODE)
        return
    ours = os.fstat(handle)
    if (there.st_uid, there.st_gid) != (ours.st_uid, ours.st_gid):
        os.fchown(handle, there.st_uid, there.st_gid)
    os.fchmod(handle, stat.S_IMODE(there.st_mode) & KEPT_MODE | MODE)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(path: Path, error: OSError) -> FireRunnerError:
    return FireRunnerError(
        f"cannot write {path}: {error.strerror or error}",
        remedy="Make its directory, and run as a user who may write there",
    )
