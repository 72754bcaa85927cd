"""The operators' side: the API, health, readiness and metrics, and the webhook's door beside them."""

from firerunner.web.access import Access
from firerunner.web.api import create_api
from firerunner.web.app import Readiness, create_web
from firerunner.web.models import Host, Pool, Size
from firerunner.web.operations import Operations

__all__ = ["Access", "Host", "Operations", "Pool", "Readiness", "Size", "create_api", "create_web"]
