"""Metrics, traces and logs."""

from firerunner.telemetry.logs import configure_logs, set_log_level
from firerunner.telemetry.metrics import Metrics, Sample

__all__ = ["Metrics", "Sample", "configure_logs", "set_log_level"]
