"""Faithful stand-ins for the systems around FireRunner, on the wire, for the demo, the tests and the bench."""
