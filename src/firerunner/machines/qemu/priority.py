"""The service comes before machines, those that start before those that run jobs: somebody waits for them.

Where the kernel shares the processors among sessions first (sched(7): "autogroup", Debian's default), a nice
value counts only within a session. A keeper and its QEMU are a session, so it is given one of its own; where
the kernel does not do that, that of QEMU counts. A machine in a control group is weighed by that alone
(`cgroups.give_way`).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

VMM_NICE = 5
"""Of QEMU: after its keeper, which carries the guest's connections."""

STARTING_NICE, RUNNING_NICE = 3, 10
"""Of the session, until the guest is up and from then on."""

OWN_SESSION = Path("/proc/self/autogroup")


def become_vmm() -> None:
    """The calling process is about to become QEMU. A filter of system calls may refuse it: then it stays."""
    with suppress(OSError):
        os.nice(VMM_NICE)


def rank(nice: int) -> bool:
    """Give the calling process's session a nice value; False if it has to be tried again later.

    The kernel lets an ordinary user do that ten times a second, all sessions counted.
    """
    try:
        OWN_SESSION.write_text(f"{nice}\n")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
