"""Imported first, so that gRPC's core is as quiet as in the program."""

import firerunner.machines.flintlock  # noqa: F401
