"""A hostile job next to an honest one: what it tries, and what was seen of it from outside."""
