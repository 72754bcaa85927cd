"""Settings: one thing that a pool lets its guests reach, as the operator writes it."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from firerunner.machines.spec import Destination, Domain, Egress, Internet, Network
from firerunner.settings.values import split_address

GITLAB = "gitlab"
INTERNET = "internet"

_EXPECTED = (
    "expected `gitlab`, host:port, *.example.com, 10.0.0.0/8 or `internet` (each of these three also with "
    ":port), or a mapping of host, port and optionally connect_to"
)
_WITH_PORT = re.compile(r"(?P<what>\S+):(?P<port>\d{1,5})")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_MAX_PORT = 65535


def _egress(value: Any) -> Any:
    if isinstance(value, str):
        return value if value == GITLAB else _written(value)
    if isinstance(value, dict) and {"host", "port"} <= set(value) <= {"host", "port", "connect_to"}:
        return Destination(str(value["host"]), _port(str(value["port"])), value.get("connect_to"))
    if isinstance(value, Egress):
        return value
    raise ValueError(_EXPECTED)


def _written(text: str) -> Egress:
    match = _WITH_PORT.fullmatch(text)
    what, port = (match["what"], _port(match["port"])) if match else (text, None)
    if what == INTERNET:
        return Internet(port)
    if what.startswith("*"):
        return Domain(_domain(what), port)
    if "/" in what:
        return Network(_network(what), port)
    if match is None:
        raise ValueError(_EXPECTED)
    return Destination(*split_address(text))


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= _MAX_PORT:
        raise ValueError(f"a port is a number from 1 to {_MAX_PORT}")
    return int(text)


def _domain(text: str) -> str:
    parent = text.removeprefix("*.").lower()
    if parent == text or not _DOMAIN.fullmatch(parent):
        raise ValueError(f"{text} is no domain; write it like *.example.com")
    return parent


def _network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"expected a network such as 10.0.0.0/8: {error}") from None
    if not isinstance(network, ipaddress.IPv4Network):
        raise ValueError(f"{text}: guests speak IPv4 on their link; give the names of what has IPv6 only")
    if network.is_loopback or network.is_link_local or network.is_multicast:
        raise ValueError(f"{text} means something else on each computer and is never reached")
    return str(network)


def plain(item: Egress) -> str:
    """In one word, as guests see it."""
    port = "" if item.port is None else f":{item.port}"
    if isinstance(item, Internet):
        return f"{INTERNET}{port}"
    if isinstance(item, Domain):
        return f"*.{item.parent}{port}"
    if isinstance(item, Network):
        return f"{item.cidr}{port}"
    return f"{item.host}{port}"


def _shown(item: Egress | str) -> str | dict[str, Any]:
    """As an operator would write it."""
    if isinstance(item, str):
        return item
    if not isinstance(item, Destination) or (item.connect_to is None and ":" not in item.host):
        return plain(item)
    return {"host": item.host, "port": item.port, "connect_to": item.connect_to}


EgressItem = Annotated[
    Egress | str,
    BeforeValidator(_egress),
    PlainSerializer(_shown),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {
                        "host": {"type": "string"},
                        "port": {"type": "integer", "minimum": 1, "maximum": _MAX_PORT},
                        "connect_to": {"type": "string"},
                    },
                    "required": ["host", "port"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
"""A destination, a network, the names below a domain, the internet, or the word `gitlab`."""
