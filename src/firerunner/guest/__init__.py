"""What runs inside a machine: the two boot stages, the boot parameters, and the stand-in runner."""
