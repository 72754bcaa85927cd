"""Settings: whether a failed job's machine is kept for a look."""

from __future__ import annotations

from pydantic import Field

from firerunner.settings.values import Duration, Section


class HoldSettings(Section):
    """Keeps the machines of failed jobs for a while, with all that is on them: see [hold](hold.md)."""

    time: Duration = Field(default=900.0, ge=60.0, le=28_800.0)
    """How long such a machine is kept."""

    limit: int = Field(default=1, ge=1, le=100)
    """At most so many of the pool at once; when there are as many, the next one is not kept."""
