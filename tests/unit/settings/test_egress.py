"""What a pool lets its guests reach, as operators write it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from firerunner.machines.spec import Destination, Domain, Egress, Internet, Network
from firerunner.settings.egress import EgressItem

ITEM: TypeAdapter[Egress | str] = TypeAdapter(EgressItem)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("gitlab", "gitlab"),
        ("registry.example.com:443", Destination("registry.example.com", 443)),
        ({"host": "a.test", "port": 3142, "connect_to": "10.0.0.5"}, Destination("a.test", 3142, "10.0.0.5")),
        ("10.0.0.5:22", Destination("10.0.0.5", 22)),
        ({"host": "fd00::1", "port": 22}, Destination("fd00::1", 22)),
        ("10.20.0.0/16", Network("10.20.0.0/16")),
        ("10.20.0.0/16:5432", Network("10.20.0.0/16", 5432)),
        ("0.0.0.0/0", Network("0.0.0.0/0")),
        ("*.Example.com", Domain("example.com")),
        ("*.example.com:443", Domain("example.com", 443)),
        ("internet", Internet()),
        ("internet:443", Internet(443)),
    ],
)
def test_each_form_means_one_thing(written: Any, meant: object) -> None:
    item = ITEM.validate_python(written)

    assert item == meant
    assert ITEM.validate_python(ITEM.dump_python(item)) == meant


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("mirror", "expected `gitlab`, host:port"),
        ("intranet", "expected `gitlab`, host:port"),
        (5, "expected `gitlab`, host:port"),
        ({"host": "a.test"}, "expected `gitlab`, host:port"),
        ({"host": "a.test", "port": "https"}, "a port is a number from 1 to 65535"),
        ("a.test:0", "a port is a number from 1 to 65535"),
        ("internet:70000", "a port is a number from 1 to 65535"),
        ("*example.com", "write it like *.example.com"),
        ("*", "write it like *.example.com"),
        ("*.*.example.com", "write it like *.example.com"),
        ("10.0.0.1/8", "has host bits set"),
        ("10.0.0.0/40", "expected a network such as 10.0.0.0/8"),
        ("fd00::/8", "give the names"),
        ("127.0.0.0/8", "never reached"),
        ("169.254.169.254/32:80", "never reached"),
    ],
)
def test_what_means_nothing_is_refused_with_what_would(written: Any, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ITEM.validate_python(written)

    assert said in str(caught.value)
