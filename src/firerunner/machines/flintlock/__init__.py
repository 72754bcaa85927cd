"""Flintlock: Firecracker microVMs on other hosts, over gRPC."""

import os

# gRPC's core writes every refused handshake to standard error; what went wrong is in the errors.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
