"""ASGI applications on sockets of ours: in bounds, against slow and too many clients, and over TLS."""

from firerunner.serving.bounds import GATE_BOUNDS, WEB_BOUNDS, Bounds
from firerunner.serving.certificate import Certificate
from firerunner.serving.server import Served, served

__all__ = ["GATE_BOUNDS", "WEB_BOUNDS", "Bounds", "Certificate", "Served", "served"]
