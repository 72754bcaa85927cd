"""The dashboard at `/`: what the service does, seen and steered in a browser."""

from firerunner.web.dashboard.app import Dashboard

__all__ = ["Dashboard"]
