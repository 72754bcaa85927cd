"""Bare git repositories for the fake's projects, made with the real git and a fixed author."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

AUTHOR_NAME = "Sample Author"
AUTHOR_EMAIL = "author@example.com"
COMMIT_DATE = "2026-01-02T03:04:05+00:00"
COMMIT_EPOCH = 1767323045
BLANK_SHA = "0" * 40


GITLINK = "160000"
"""git's mode of a submodule."""


@dataclass(frozen=True, slots=True)
class Submodule:
    """In place of a file's content: the commit of another repository, named in `.gitmodules`."""

    sha: str


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


async def git(*arguments: str | Path, cwd: Path, feed: bytes | None = None) -> str:
    """Run git, give it `feed` to read, and return what it printed. Raises `GitFailed`."""
    process = await asyncio.create_subprocess_exec(
        "git",
        *map(str, arguments),
        cwd=cwd,
        env=environment(),
        stdin=asyncio.subprocess.DEVNULL if feed is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(feed)
    if process.returncode:
        said = err.decode(errors="replace").strip()
        raise GitFailed(f"git {arguments[0]} ended with {process.returncode}: {said}")
    return out.decode()


async def create(repository: Path, branch: str) -> None:
    """Make an empty bare repository that may be fetched shallowly and by any commit, as GitLab allows."""
    await asyncio.to_thread(repository.mkdir, parents=True)
    await git("init", "-q", "--bare", "--template=", f"--initial-branch={branch}", ".", cwd=repository)
    with (repository / "config").open("a") as config:
        config.write("[uploadpack]\n\tallowAnySHA1InWant = true\n[http]\n\treceivepack = true\n")


async def commit(
    repository: Path, branch: str, source: Mapping[str, str | bytes | Submodule] | Path, message: str
) -> str:
    """Replace the branch's whole content by these files (or this folder's) in one commit; returns its SHA."""
    files = await asyncio.to_thread(lambda: list(_files(source)))
    known = await git("for-each-ref", "--format=%(refname)", f"refs/heads/{branch}", cwd=repository)
    author = f"{AUTHOR_NAME} <{AUTHOR_EMAIL}> {COMMIT_EPOCH} +0000"
    stream = [
        f"commit refs/heads/{branch}\nmark :1\nauthor {author}\ncommitter {author}\n".encode(),
        _data(f"{message}\n".encode()),
        f"from refs/heads/{branch}^0\n".encode() if known.strip() else b"",
        b"deleteall\n",
        *(_modify(name, mode, content) for name, mode, content in files),
        b"get-mark :1\ndone\n",
    ]
    return (await git("fast-import", "--quiet", "--done", cwd=repository, feed=b"".join(stream))).strip()


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


def _modify(name: str, mode: str, content: bytes) -> bytes:
    if mode == GITLINK:
        return f"M {mode} {content.decode()} {_quoted(name)}\n".encode()
    return f"M {mode} inline {_quoted(name)}\n".encode() + _data(content)


def _files(source: Mapping[str, str | bytes | Submodule] | Path) -> Iterator[tuple[str, str, bytes]]:
    """Name, git's mode and content of each file; a `.git` folder is left out."""
    if not isinstance(source, Path):
        for name, content in source.items():
            if isinstance(content, Submodule):
                yield name, GITLINK, content.sha.encode()
                continue
            raw = content.encode() if isinstance(content, str) else content
            yield name, "100755" if raw.startswith(b"#!") else "100644", raw
        return
    if not source.is_dir():
        raise NotADirectoryError(f"{source} is not a folder")
    for path in sorted(source.rglob("*")):
        below = path.relative_to(source)
        if below.parts[0] == ".git":
            continue
        if path.is_symlink():
            yield str(below), "120000", os.fsencode(path.readlink())
        elif path.is_file():
            yield str(below), "100755" if os.access(path, os.X_OK) else "100644", path.read_bytes()


def _data(content: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(content), content)


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
