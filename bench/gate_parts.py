"""What the processes of the bench `gate` have to know of each other."""

from __future__ import annotations

MACHINES = 256
"""Each may make 20 calls a second and 60 at once; so many that the gate itself is the limit."""

DOWNLOAD_BYTES = 64 * 1024 * 1024

DEPENDENCY_ID = 9001
DEPENDENCY = {"id": DEPENDENCY_ID, "token": "token-of-dependency"}


def machine_name(number: int) -> str:
    """As real ones look."""
    return f"fr-{number:012x}"


def job_token(number: int) -> str:
    """As long as real ones."""
    return f"glcbt-{number:020d}"


REDIRECTED = frozenset({machine_name(MACHINES - 1)})
"""Machines whose guests reach GitLab themselves."""
