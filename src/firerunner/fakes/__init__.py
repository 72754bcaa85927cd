"""Faithful stand-ins, on the wire, for the systems around FireRunner: for demo, tests and bench."""
