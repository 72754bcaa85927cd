"""The operators' side: health, readiness, metrics, and the webhook's door beside them."""

from firerunner.web.app import Readiness, create_web

__all__ = ["Readiness", "create_web"]
