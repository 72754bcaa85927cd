"""Switches one safeguard off in the service, so that it is seen that the harness notices.

The service is a process of its own: `SWITCHED_OFF_FOR_A_TEST` in its environment, and a `sitecustomize` that
calls us.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

VARIABLE = "SWITCHED_OFF_FOR_A_TEST"
CHOICES = ("credentials", "link")


def switch_off(what: str, loopback_port: str, directory: Path) -> None:
    """For every Python that this process starts from now on."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sitecustomize.py").write_text("from tests.hostile.unsafe import act\n\nact()\n")
    here = str(Path(__file__).parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join((str(directory), here))
    os.environ[VARIABLE] = f"{what}:{loopback_port}"


def act() -> None:
    """In the service, before it starts."""
    what, _, port = os.environ.get(VARIABLE, "").partition(":")
    if what == "credentials":
        _believe_everyone()
    elif what == "link":
        _let_in(int(port))


def _believe_everyone() -> None:
    """The gate takes any credential for that of the machine in the path."""
    from firerunner.gate import delivery, guest
    from firerunner.gate.credentials import known_machine

    async def prove(ledger: Any, machine_id: str, _credential: str) -> Any:
        return known_machine(await ledger.machine(machine_id))

    delivery.prove = guest.prove = prove


def _let_in(port: int) -> None:
    """Each machine's link has one more listener, which leads to this computer's loopback."""
    from firerunner.machines.qemu import egress
    from firerunner.machines.qemu.order import Listener

    real = egress.listeners

    def listeners(*given: Any) -> Any:
        return (*real(*given), Listener(egress.HOST_ADDRESS, port, "127.0.0.1", port))

    egress.listeners = listeners
