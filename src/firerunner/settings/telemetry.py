"""Settings: where traces are sent."""

from __future__ import annotations

from pydantic import field_validator

from firerunner.settings.values import Section, checked_url


class TracesSettings(Section):
    """OpenTelemetry traces, one for each job. Read at the start of the service."""

    endpoint: str | None = None
    """Base address of a collector that takes OTLP over HTTP, for example http://127.0.0.1:4318; `/v1/traces`
    is added. None: no traces are made."""

    @field_validator("endpoint")
    @classmethod
    def _is_base_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        checked = checked_url(value)
        if checked.endswith("/v1/traces"):
            raise ValueError("the address must end before /v1/traces, which is added")
        return checked


class TelemetrySettings(Section):
    """What the service tells others about itself, besides metrics and the log."""

    traces: TracesSettings = TracesSettings()
