"""The loop that turns demand for jobs into machines: observers see, the plan decides, actors act."""

from firerunner.control.context import Context
from firerunner.control.controller import Controller, Stop
from firerunner.control.pools import KnownPools

__all__ = ["Context", "Controller", "KnownPools", "Stop"]
