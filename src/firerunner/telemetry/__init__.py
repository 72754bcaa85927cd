"""Metrics and logs."""

from firerunner.telemetry.counters import Counters
from firerunner.telemetry.logs import configure_logs

__all__ = ["Counters", "configure_logs"]
