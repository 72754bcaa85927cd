"""Metrics and logs."""

from firerunner.telemetry.counters import Counters
from firerunner.telemetry.logs import configure_logs
from firerunner.telemetry.rotating import LogFile

__all__ = ["Counters", "LogFile", "configure_logs"]
