"""What a fake GitLab can be told to be like: the settings of an instance that change the protocol."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(slots=True)
class Behaviour:
    """Knobs of the instance. Each may be changed while it runs."""

    long_poll_s: float = 0.0
    """How long an ask with a current `last_update` is held. Off by default, as on a self-managed GitLab."""

    trace_update_interval_s: int = 3
    """`X-GitLab-Trace-Update-Interval` of trace answers. A real GitLab says 3 only while someone looks at the
    log, and 60 otherwise (Rails `lib/gitlab/ci/trace.rb`)."""

    trace_limit_bytes: int = 100 * MIB
    """A longer log fails the job with `trace_size_exceeded` (Rails `ci_jobs_trace_size_limit`)."""

    final_update_waits: int = 0
    """How many final updates with a checksum are answered 202 first, as with live traces."""

    artifact_limit_bytes: int = 1024 * MIB
    """A larger upload is answered 413."""

    artifacts_enabled: bool = True
    """Off: uploads are answered 405."""

    redirect_uploads: bool = False
    """Answer uploads with a 307 first, as a secondary site does."""

    redirect_downloads: bool = False
    """Answer downloads with a 302 to the fake's own object storage when `direct_download=true`."""

    runner_limit: int | None = None
    """From this many runners on, `POST /user/runners` answers 400."""

    hook_time_format: str = "utc"
    """`utc` for `2026-01-02 03:04:05 UTC`, `iso` for ISO 8601."""

    hook_timeout_s: float = 10.0
    """GitLab's `webhook_timeout`."""

    hook_auto_disable: bool = True
    """Switch a hook off from its 4th consecutive failure, for good at the 40th."""

    premium: bool = True
    """Off: the API knows no hooks of groups, as in GitLab's free edition."""

    signs_hooks: bool = True
    """Off: a `signing_token` is ignored, as by a GitLab from before 2026."""

    version: str = "19.4.0"
    """Told by `GET /version` and in `User-Agent`."""
