"""The operators' side: API, dashboard, health, readiness and metrics, and the webhook's door beside them."""

from firerunner.web.access import Access
from firerunner.web.acts import Acts
from firerunner.web.api import create_api
from firerunner.web.app import Readiness, create_web
from firerunner.web.dashboard import Dashboard
from firerunner.web.models import Host, Pool, Size
from firerunner.web.operations import Fleet, Operations

__all__ = [
    "Access",
    "Acts",
    "Dashboard",
    "Fleet",
    "Host",
    "Operations",
    "Pool",
    "Readiness",
    "Size",
    "create_api",
    "create_web",
]
