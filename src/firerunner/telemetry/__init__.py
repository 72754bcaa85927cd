"""Metrics and logs."""

from firerunner.telemetry.counters import Counters
from firerunner.telemetry.logs import configure_logs, set_log_level

__all__ = ["Counters", "configure_logs", "set_log_level"]
