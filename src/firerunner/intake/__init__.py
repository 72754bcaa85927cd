"""The webhook endpoint: authenticate, limit, wake."""

from firerunner.intake.door import create_intake
from firerunner.intake.hooks import Hook, read_hook

__all__ = ["Hook", "create_intake", "read_hook"]
