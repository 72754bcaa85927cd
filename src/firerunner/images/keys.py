"""Public keys of OpenPGP, in the binary form that gpgv and apt read everywhere."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from firerunner.errors import ImageError

_HEAD: Final = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"


def dearmored(key: bytes) -> bytes:
    """The key's binary form, out of either form (RFC 4880, section 6.2). Raises `ImageError`."""
    text = key.strip().replace(b"\r", b"")
    if not text.startswith(_HEAD):
        return key
    _, _, body = text.partition(b"\n\n")
    lines = [line for line in body.splitlines() if line and not line.startswith((b"=", b"-"))]
    try:
        return base64.b64decode(b"".join(lines), validate=True)
    except binascii.Error as error:
        raise ImageError(f"a public key cannot be read: {error}", remedy="Export it again") from error
