"""What a machine is, the driver protocol, and one folder per driver."""
