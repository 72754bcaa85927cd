"""The program that renews a restored guest, run as an ordinary process: one that may not set the clock."""

from __future__ import annotations

import errno
import os
import subprocess

from firerunner.images.renewal import renewal_program

NOBODY = 65534


def run(line: bytes) -> subprocess.CompletedProcess[bytes]:
    program = os.memfd_create("renew")
    try:
        os.write(program, renewal_program())
        os.fchmod(program, 0o755)
        return subprocess.run(
            [f"/proc/self/fd/{program}"],
            input=line,
            capture_output=True,
            pass_fds=[program],
            user=NOBODY if os.geteuid() == 0 else None,
            check=False,
        )
    finally:
        os.close(program)


def test_who_may_not_set_the_clock_is_told_so_and_the_line_is_not_handed_on() -> None:
    done = run(b"fr-0123456789ab http://10.0.2.2 credential 1700000000 0123456789abcdef\n")

    assert (done.returncode, done.stdout) == (errno.EPERM, b"\n")


def test_no_line_is_no_line() -> None:
    done = run(b"")

    assert (done.returncode, done.stdout) == (0, b"\n")
