"""Why a machine ended, in words: pure, from what the keeper saw."""

from __future__ import annotations

import os
import signal

SHUTDOWN_REASONS = {
    "guest-reset": "guest reboot",
    "guest-shutdown": "guest poweroff",
    "guest-panic": "guest panic",
    "host-qmp-quit": "VMM told to quit",
    "host-qmp-system-reset": "VMM told to reset",
    "host-signal": "VMM told to end by a signal",
    "host-error": "VMM failed on the host's side",
}
"""QEMU's ShutdownCause (qapi/run-state.json) in our words. A panic with panic=-1 is a guest-reset."""


def why_ended(
    status: int, *, told: str = "", shutdown: str = "", memory_limit_mib: int | None = None, stderr: str = ""
) -> str:
    """The reason for the state file.

    `status` is that of waitpid, `told` our own reason for killing it, `shutdown` the reason in QMP's
    SHUTDOWN event. QEMU's exit code is 0 for nearly everything, so it comes last.
    `memory_limit_mib` is given if the kernel killed a process of the machine for its memory limit.
    """
    if told:
        return told
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL and memory_limit_mib is not None:
            return f"VMM killed by signal {number}: over its memory limit of {memory_limit_mib} MiB"
        return f"VMM killed by signal {number}"
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        last_line = stderr.strip().rpartition("\n")[2]
        return f"VMM failed with exit status {code}: {last_line or 'it said nothing'}"
    if shutdown:
        return SHUTDOWN_REASONS.get(shutdown, f"VMM shut down: {shutdown}")
    return "VMM ended without a reason"
