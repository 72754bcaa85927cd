"""Metrics, traces and logs."""

from firerunner.telemetry.logs import configure_logs
from firerunner.telemetry.metrics import Metrics, Sample
from firerunner.telemetry.rotating import LogFile

__all__ = ["LogFile", "Metrics", "Sample", "configure_logs"]
