"""The `qemu` driver: machines on this computer, one keeper process and one QEMU each.

`driver` is what the controller uses. `keeper` is the program that outlives the controller; what it
imports (`order`, `launch`, `namespace`, `confine`, `watch`, `relay`, `console`, `statefile`) needs
the standard library only, so that a keeper starts in a few hundredths of a second and stays small.
That is why this package loads `QemuDriver` only when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firerunner.machines.qemu.driver import QemuDriver

__all__ = ["QemuDriver"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    from firerunner.machines.qemu import driver  # noqa: PLC0415

    return getattr(driver, name)
