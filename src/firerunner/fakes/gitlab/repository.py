"""Bare git repositories for the fake's projects, made with the real git and a fixed author."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

AUTHOR_NAME = "Sample Author"
AUTHOR_EMAIL = "author@example.com"
COMMIT_DATE = "2026-01-02T03:04:05+00:00"
BLANK_SHA = "0" * 40


class GitFailed(RuntimeError):
    """git ended with an error; the message holds what it said."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit that a pipeline may run on."""

    sha: str
    before_sha: str
    message: str
    is_tag: bool


def environment() -> dict[str, str]:
    """An environment in which git reads no configuration of this computer and dates every commit alike."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": AUTHOR_NAME,
        "GIT_AUTHOR_EMAIL": AUTHOR_EMAIL,
        "GIT_AUTHOR_DATE": COMMIT_DATE,
        "GIT_COMMITTER_NAME": AUTHOR_NAME,
        "GIT_COMMITTER_EMAIL": AUTHOR_EMAIL,
        "GIT_COMMITTER_DATE": COMMIT_DATE,
        "LC_ALL": "C",
    }


async def git(*arguments: str | Path, cwd: Path) -> str:
    """Run git and return what it printed. Raises `GitFailed`."""
    process = await asyncio.create_subprocess_exec(
        "git",
        *map(str, arguments),
        cwd=cwd,
        env=environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode:
        raise GitFailed(
            f"git {arguments[0]} ended with {process.returncode}: {err.decode(errors='replace').strip()}"
        )
    return out.decode()


async def create(repository: Path, branch: str) -> None:
    """Make an empty bare repository that may be fetched shallowly and by any commit, as GitLab allows."""
    await asyncio.to_thread(repository.mkdir, parents=True)
    await git("init", "-q", "--bare", f"--initial-branch={branch}", ".", cwd=repository)
    await git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=repository)
    await git("config", "http.receivepack", "true", cwd=repository)


async def commit(
    repository: Path, branch: str, source: Mapping[str, str | bytes] | Path, message: str
) -> str:
    """Replace the branch's whole content by these files (or this folder's) in one commit; returns its SHA."""
    with tempfile.TemporaryDirectory(prefix="fake-gitlab-") as folder:
        tree = Path(folder) / "tree"
        _write(source, tree)
        shutil.rmtree(tree / ".git", ignore_errors=True)
        common = (f"--git-dir={repository}", f"--work-tree={tree}")
        index = repository / "index"
        index.unlink(missing_ok=True)
        await git(*common, "add", "-A", "-f", ".", cwd=tree)
        parents = await parent_arguments(repository, branch)
        written = (await git(*common, "write-tree", cwd=tree)).strip()
        sha = (await git(*common, "commit-tree", written, *parents, "-m", message, cwd=tree)).strip()
        index.unlink(missing_ok=True)
    await git("update-ref", f"refs/heads/{branch}", sha, cwd=repository)
    return sha


async def parent_arguments(repository: Path, branch: str) -> tuple[str, ...]:
    """`-p SHA` of the branch's head; nothing for a new branch."""
    try:
        head = await git("rev-parse", "--verify", "-q", f"refs/heads/{branch}", cwd=repository)
    except GitFailed:
        return ()
    return ("-p", head.strip())


async def look_up(repository: Path, ref: str) -> Commit | None:
    """What a branch or tag of that name points at."""
    for prefix, is_tag in (("refs/heads/", False), ("refs/tags/", True)):
        try:
            shown = await git("log", "-1", "--format=%H%n%P%n%B", f"{prefix}{ref}^{{commit}}", cwd=repository)
        except GitFailed:
            continue
        sha, parents, message = shown.split("\n", 2)
        return Commit(sha, parents.partition(" ")[0] or BLANK_SHA, message.strip() + "\n", is_tag)
    return None


async def read(repository: Path, sha: str, path: str) -> str | None:
    """A text file at a commit; None if it is not there."""
    try:
        return await git("show", f"{sha}:{path}", cwd=repository)
    except GitFailed:
        return None


async def keep(repository: Path, pipeline_id: int, sha: str) -> None:
    """Make GitLab's persistent ref of a pipeline, which its jobs fetch."""
    await git("update-ref", f"refs/pipelines/{pipeline_id}", sha, cwd=repository)


def _write(source: Mapping[str, str | bytes] | Path, tree: Path) -> None:
    if isinstance(source, Path):
        shutil.copytree(source, tree, symlinks=True)
        return
    tree.mkdir()
    for name, content in source.items():
        file = tree / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        if isinstance(content, str) and content.startswith("#!"):
            file.chmod(0o755)
