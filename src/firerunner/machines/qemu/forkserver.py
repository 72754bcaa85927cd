"""The fork server: a process that has loaded all that a keeper needs, and forks one for each order.

`python -I -m firerunner.machines.qemu.forkserver NAME` has a socket as its standard input. Each message
there brings the descriptors of one keeper (`starting`), which is forked at once. Loading Python and asyncio
takes several times as long as all else that a keeper does until QEMU runs, and keepers share that memory now.
It ends when nobody holds the socket's other end any more; its keepers live on.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import traceback

from firerunner.machines.qemu.keeper import become_keeper

MAX_FDS = 3
"""The channel for order and answer; memory and devices of a saved state."""


def main() -> int:
    """Fork keepers until there is nobody to ask for one."""
    orders = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers leave no zombies
    gc.collect()
    gc.freeze()
    while True:
        message, fds, _, _ = socket.recv_fds(orders, 1, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return 0
        _fork_keeper(orders, fds)
        for fd in fds:
            os.close(fd)


def _fork_keeper(orders: socket.socket, fds: list[int]) -> None:
    try:
        if os.fork():
            return
    except OSError as error:
        os.write(fds[0], json.dumps({"failed": f"fork: {error.strerror}", "host": True}).encode())
        return
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        orders.close()
        become_keeper(*fds)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
