"""Sized tags: which machine a job asks for by its tags, which template may give it, and why not. Pure.

A runner serves exactly one sized tag, so a job that has other tags besides would be taken by none.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

MIB_PER_GB = 1024
MAX_NAME = 40
"""Characters of a pool's name."""

_TAG = re.compile(r"(?P<prefix>.+?)-(?P<vcpu>[1-9]\d{0,8})cpu-(?P<gb>[1-9]\d{0,8})gb")
_FORM = "{}-4cpu-8gb: whole numbers, without leading zeros, in small letters"


@dataclass(frozen=True, slots=True)
class Size:
    """What a sized tag asks for."""

    tag: str
    prefix: str
    vcpu: int
    memory_mib: int

    def __str__(self) -> str:
        return f"{self.vcpu} vCPU and {self.memory_mib // MIB_PER_GB} GiB"


@dataclass(frozen=True, slots=True)
class Template:
    """What a template pool gives."""

    name: str
    prefixes: tuple[str, ...]
    max_vcpu: int
    max_memory_mib: int

    def excess(self, size: Size) -> str:
        """What of the size is too much; empty if nothing is."""
        over = []
        if size.vcpu > self.max_vcpu:
            over.append(f"{size.vcpu} vCPU, at most {self.max_vcpu}")
        if size.memory_mib > self.max_memory_mib:
            over.append(f"{size.memory_mib} MiB, at most {self.max_memory_mib}")
        return " and ".join(over)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A job that a template may serve."""

    template: str
    size: Size


@dataclass(frozen=True, slots=True)
class Unserved:
    """A job with a sized tag that nobody of ours will serve."""

    tag: str
    reason: str


def judge(tags: Sequence[str], templates: Sequence[Template]) -> Wanted | Unserved | None:
    """What to do about a job with these tags; None if none is sized. The first fitting template wins."""
    prefixes = {prefix for template in templates for prefix in template.prefixes}
    sized = [(tag, prefix) for tag in tags if (prefix := _meant(tag, prefixes)) is not None]
    if not sized:
        return None
    tag, meant = sized[0]
    if len(tags) > 1:
        others = ", ".join(sorted(set(tags) - {tag}))
        return Unserved(tag, f"the job has other tags besides ({others}); a sized tag has to be its only one")
    size = read_tag(tag, prefixes)
    if size is None:
        return Unserved(tag, f"it is malformed; the form is {_FORM.format(meant)}")
    reasons = []
    for template in templates:
        if size.prefix in template.prefixes:
            excess = template.excess(size)
            if not excess:
                return Wanted(template.name, size)
            reasons.append(f"template {template.name}: {excess}")
    return Unserved(tag, f"it is too large ({'; '.join(reasons)})")


def read_tag(tag: str, prefixes: set[str]) -> Size | None:
    """The size that a tag of the right form names."""
    match = _TAG.fullmatch(tag)
    if match is None or not tag.isascii() or match["prefix"] not in prefixes:
        return None
    return Size(tag, match["prefix"], int(match["vcpu"]), int(match["gb"]) * MIB_PER_GB)


def pool_name(template: str, size: Size, *, first_prefix: str, project_id: int | None) -> str:
    """A name of 40 characters at most, the same for the same runner, for example `sized-4cpu-8gb`.

    The prefix is in it if it is not the template's first, the project if the runner is a project's.
    """
    end = f"-{size.vcpu}cpu-{size.memory_mib // MIB_PER_GB}gb"
    if project_id is not None:
        end += f"-p{project_id}"
    if size.prefix != first_prefix:
        end += f"-{_plain(size.prefix)}"
    if len(template) + len(end) <= MAX_NAME:
        return template + end
    digest = hashlib.sha256(f"{template}{end}".encode()).hexdigest()[:8]
    kept = end if len(end) <= MAX_NAME // 2 else end[: MAX_NAME // 2]
    room = MAX_NAME - len(kept) - len(digest) - 1
    return f"{template[:room].rstrip('-')}-{digest}{kept}".rstrip("-")


def _meant(tag: str, prefixes: set[str]) -> str | None:
    """The prefix of a tag that is meant to be sized, also of a malformed one such as `firecracker-4CPU`."""
    found = (p for p in sorted(prefixes) if re.match(rf"{re.escape(p)}-\d", tag, re.IGNORECASE))
    return next(found, None)


def _plain(prefix: str) -> str:
    """The prefix in letters that a pool's name may have."""
    plain = re.sub(r"[^a-z0-9]+", "-", prefix.lower()).strip("-")
    return plain if plain == prefix else f"{plain}-{hashlib.sha256(prefix.encode()).hexdigest()[:6]}"
