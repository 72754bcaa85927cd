"""The webhook endpoint: authenticate, limit, wake."""

from firerunner.intake.door import Door
from firerunner.intake.gathering import Gatherer
from firerunner.intake.hooks import Hook, read_hook

__all__ = ["Door", "Gatherer", "Hook", "read_hook"]
