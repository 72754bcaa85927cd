"""Flintlock: Firecracker microVMs on other hosts, over gRPC."""
