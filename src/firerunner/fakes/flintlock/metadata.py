"""Firecracker's metadata service, version 1, for one connection: the request on standard input, the answer
on standard output. Run as a file, with the metadata's file as its argument.

Follows Firecracker docs/mmds/mmds-user-guide.md: a string is given as plain text unless JSON is asked for.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, TextIO


def answer(request: TextIO, metadata: Any) -> str:
    """The whole answer."""
    method, path, _ = request.readline().split(" ", 2)
    as_json = False
    while line := request.readline().strip().lower():
        as_json = as_json or line == "accept: application/json"
    if method != "GET":
        return _http("405 Method Not Allowed", "Not allowed HTTP method.")
    for key in filter(None, path.split("/")):
        if not isinstance(metadata, dict) or key not in metadata:
            return _http("404 Not Found", f"Resource not found: {path}.")
        metadata = metadata[key]
    if as_json:
        return _http("200 OK", json.dumps(metadata), "application/json")
    return _http("200 OK", metadata if isinstance(metadata, str) else "\n".join(metadata))


def _http(status: str, body: str, kind: str = "text/plain") -> str:
    head = f"HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body.encode())}\r\n"
    return f"{head}Connection: close\r\n\r\n{body}"


if __name__ == "__main__":
    sys.stdout.write(answer(sys.stdin, json.loads(Path(sys.argv[1]).read_text())))
