"""The process keepers are forked from: started when needed, replaced when killed, gone with its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.machines.test_qemu_pure import ID, an_order

from firerunner.errors import HostUnusable
from firerunner.machines.qemu import processes
from firerunner.machines.qemu.order import Order
from firerunner.machines.qemu.starting import ForkServer

PATIENCE_S = 30.0


@pytest.fixture
def fork_server(tmp_path: Path) -> Iterator[ForkServer]:
    server = ForkServer(tmp_path)
    yield server
    server.close()


def an_order_that_fails(state_dir: Path) -> Order:
    """Its keeper comes to life, and finds no directory to keep its log in."""
    return an_order()._replace(directory=str(state_dir / "machines" / ID), saved=None)


def servers_of(state_dir: Path) -> list[int]:
    wanted = processes.fork_server_name(state_dir)
    pids = (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())
    return [pid for pid in pids if wanted in command_line(pid)]


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.01)


def test_a_keeper_that_finds_no_directory_says_so(fork_server: ForkServer, tmp_path: Path) -> None:
    with pytest.raises(HostUnusable, match=f"could not be started.*{ID}"):
        fork_server.give_order(an_order_that_fails(tmp_path))


def test_one_server_serves_all_orders_and_leaves_no_process(fork_server: ForkServer, tmp_path: Path) -> None:
    for _ in range(3):
        with pytest.raises(HostUnusable, match="could not be started"):
            fork_server.give_order(an_order_that_fails(tmp_path))

    (server,) = servers_of(tmp_path)
    wait_for(lambda: not Path(f"/proc/{server}/task/{server}/children").read_text(), "keepers to be gone")
    fork_server.close()
    assert servers_of(tmp_path) == []


@pytest.mark.parametrize("is_dead", [True, False])
def test_a_server_that_was_killed_is_replaced(fork_server: ForkServer, tmp_path: Path, is_dead: bool) -> None:
    with pytest.raises(HostUnusable, match="could not be started"):
        fork_server.give_order(an_order_that_fails(tmp_path))
    (first,) = servers_of(tmp_path)
    os.kill(first, signal.SIGKILL if is_dead else signal.SIGSTOP)
    if is_dead:
        wait_for(lambda: not servers_of(tmp_path), "the server to be gone")
    else:  # it dies with the order in its hands
        threading.Timer(0.2, os.kill, (first, signal.SIGKILL)).start()

    with pytest.raises(HostUnusable, match="could not be started"):
        fork_server.give_order(an_order_that_fails(tmp_path))

    (second,) = servers_of(tmp_path)
    assert second != first


def test_a_python_that_cannot_load_it_is_named_with_what_it_says(
    fork_server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "FORK_SERVER_MODULE", "firerunner.no_such_module")

    with pytest.raises(HostUnusable, match=r"keepers cannot be started: .*no_such_module"):
        fork_server.give_order(an_order_that_fails(tmp_path))

    monkeypatch.undo()
    with pytest.raises(HostUnusable, match="could not be started"):
        fork_server.give_order(an_order_that_fails(tmp_path))


def test_it_ends_with_the_one_who_started_it(tmp_path: Path) -> None:
    """Killed, a controller closes nothing itself."""
    script = (
        "import os, sys, pathlib\n"
        "from firerunner.machines.qemu.starting import ForkServer\n"
        "server = ForkServer(pathlib.Path(sys.argv[1]))\n"
        "server._server = server._start()\n"
        "print(server._server.process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False
    )

    assert done.returncode == -signal.SIGKILL, done.stderr
    wait_for(lambda: not servers_of(tmp_path), f"process {done.stdout.strip()} to end")


def test_a_process_can_take_another_command_line_but_no_longer_one() -> None:
    script = (
        "import sys; from firerunner.machines.qemu.processes import take_command_line\n"
        "take_command_line(['keeper', '-m', 'x'])\n"
        "print(open('/proc/self/cmdline').read().rstrip(chr(0)).split(chr(0)))\n"
        "try: take_command_line(['x' * 100_000])\n"
        "except OSError as error: print(error)"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    first, second = done.stdout.splitlines()
    assert first == "['keeper', '-m', 'x']"
    assert second.startswith("a command line of 100001 bytes does not fit into ")


@pytest.mark.parametrize("place", ["machines", "templates"])
def test_the_command_line_of_a_keeper_fits_into_that_of_its_server(tmp_path: Path, place: str) -> None:
    state_dir = tmp_path / "ä, b"
    server = [sys.executable, "-I", "-m", processes.FORK_SERVER_MODULE, processes.fork_server_name(state_dir)]
    keeper = processes.keeper_command(sys.executable, state_dir.resolve() / place / ID)

    assert len(os.fsencode("\0".join(keeper))) <= len(os.fsencode("\0".join(server)))
    assert processes.role_in(server, state_dir.resolve() / place) is None
