"""The rate of this computer's time stamp counter, which a guest is told so that it need not guess.

Under emulation the guest's counter is the host's. A guest that has to calibrate it against emulated
timers hangs in about one boot of four; a guest that is told a wrong rate has a wrong clock.
"""

from __future__ import annotations

import ctypes
import mmap
import re
import time
from collections.abc import Callable
from pathlib import Path

READ_COUNTER = bytes.fromhex("0f31 48c1e220 4809d0 c3")
"""x86-64: rdtsc; shl rdx, 32; or rax, rdx; ret."""

SPAN_S = 0.25
READINGS = 50

CPUINFO = Path("/proc/cpuinfo")


def measure_tsc_khz() -> int:
    """Measure for a quarter of a second; where executable memory is refused, ask /proc/cpuinfo."""
    try:
        memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return khz_in_cpuinfo(CPUINFO.read_text())
    memory.write(READ_COUNTER)
    anchor = ctypes.c_char.from_buffer(memory)
    counter = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(anchor))
    before = _reading(counter)
    time.sleep(SPAN_S)
    after = _reading(counter)
    return round((after[1] - before[1]) / (after[0] - before[0]) * 1e6)


def khz_in_cpuinfo(text: str) -> int:
    """The first `cpu MHz`; right only where the frequency does not scale. Raises ValueError."""
    found = re.search(r"^cpu MHz\s*:\s*([0-9.]+)", text, re.MULTILINE)
    if found is None:
        raise ValueError("no 'cpu MHz' in /proc/cpuinfo")
    return round(float(found[1]) * 1000)


def _reading(counter: Callable[[], int]) -> tuple[float, int]:
    """(monotonic ns, counter), of the one reading that was interrupted least."""
    readings = []
    for _ in range(READINGS):
        start = time.monotonic_ns()
        value = counter()
        end = time.monotonic_ns()
        readings.append((end - start, (start + end) / 2, value))
    _, at, value = min(readings)
    return at, value
