"""The program `firerunner`, imported once and forked for each call: pages have a hundred of them, and each
would spend two seconds on imports. Arguments, environment, directory and terminal are the caller's.

Run as `python -m tests.docs.forked SOCKET`; ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import sys
import termios
from pathlib import Path
from typing import Any

MOST = 1 << 20
CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as there:
    there.connect({address!r})
    told = json.dumps([sys.argv, dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(there, [len(told).to_bytes(4, "big") + told], [0, 1, 2])
    sys.exit(int(there.recv(16) or b"255"))
"""


def install(program: Path, address: Path) -> None:
    """Write the client that stands for the program."""
    program.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    program.chmod(0o755)


def serve(address: str) -> None:
    """Take calls until standard input ends."""
    import firerunner.cli.main  # noqa: F401  (before the first call)

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen(50)
        print("ready", flush=True)
        while True:
            readable, _, _ = select.select([door, sys.stdin], [], [])
            if sys.stdin in readable:
                return
            caller, _ = door.accept()
            if os.fork() == 0:
                door.close()
                _keep(caller)
            caller.close()


def _keep(caller: socket.socket) -> None:
    """In a process of its own: run it, tell its status; end it if the caller goes. Does not return."""
    os.setsid()  # a signal to the test's group ends the caller; what is to be ended then is ended here
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, files, _, _ = socket.recv_fds(caller, MOST, 3)
    size = int.from_bytes(data[:4], "big") + 4
    while len(data) < size:
        data += caller.recv(MOST)
    process = os.fork()
    if process == 0:
        caller.close()
        os._exit(_run(json.loads(data[4:]), files))
    watch = os.pidfd_open(process)
    readable, _, _ = select.select([watch, caller], [], [])
    if watch not in readable:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    with contextlib.suppress(OSError):
        caller.sendall(str(os.waitstatus_to_exitcode(status) & 0xFF).encode())
    os._exit(0)


def _run(told: list[Any], files: list[int]) -> int:
    """The call, in the process that is its own. Returns its exit status."""
    from firerunner.cli.main import main

    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    with contextlib.suppress(OSError):  # no terminal, or it is somebody's
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    sys.argv, environment, directory = told
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    return status


if __name__ == "__main__":
    serve(sys.argv[1])
