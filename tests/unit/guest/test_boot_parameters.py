"""The three boot parameters survive the way into the guest, and nothing else gets through."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firerunner.errors import MachineError
from firerunner.guest.boot import BootParameters

MACHINE_ID = "fr-0123456789ab"
GATE_URL = f"http://10.0.2.2/m/{MACHINE_ID}"

credentials = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=100)


@given(credentials)
def test_what_is_formatted_is_parsed_to_the_same(credential: str) -> None:
    parameters = BootParameters(MACHINE_ID, GATE_URL, credential)

    assert BootParameters.parse(parameters.format()) == parameters


@given(st.text(max_size=200))
def test_no_credential_can_bring_a_line_of_its_own(credential: str) -> None:
    try:
        text = BootParameters(MACHINE_ID, GATE_URL, credential).format()
    except MachineError:
        return

    assert text.splitlines() == [
        f"machine_id={MACHINE_ID}",
        f"gate_url={GATE_URL}",
        f"credential={credential}",
    ]


@pytest.mark.parametrize(
    ("machine_id", "gate_url", "named"),
    [
        ("fr-SHOUTING1234", "http://10.0.2.2/m/fr-SHOUTING1234", "machine_id"),
        (MACHINE_ID, "http://10.0.2.2/m/fr-another00000", "gate_url"),
        (MACHINE_ID, f"ftp://10.0.2.2/m/{MACHINE_ID}", "gate_url"),
        (MACHINE_ID, f"http://10.0.2.2/m/{MACHINE_ID} x=y", "gate_url"),
    ],
)
def test_a_wrong_value_is_named(machine_id: str, gate_url: str, named: str) -> None:
    with pytest.raises(MachineError, match=named):
        BootParameters(machine_id, gate_url, "c")


def test_the_credential_is_in_no_message() -> None:
    parameters = BootParameters(MACHINE_ID, GATE_URL, "top-secret")
    with pytest.raises(MachineError) as raised:
        BootParameters(MACHINE_ID, GATE_URL, "top secret")

    assert "top" not in repr(parameters)
    assert "top" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"machine_id={MACHINE_ID}\ngate_url={GATE_URL}\n", "credential"),
        (f"machine_id={MACHINE_ID}\ngate_url={GATE_URL}\ncredential=c\ncredential=d\n", "credential"),
        (f"machine_id={MACHINE_ID}\ngate_url={GATE_URL}\ncredential=c\nshell=1\n", "shell"),
        ("", "''"),
    ],
)
def test_lines_that_are_missing_repeated_or_unknown_are_named(text: str, named: str) -> None:
    with pytest.raises(MachineError, match=named):
        BootParameters.parse(text)
