"""Listening sockets: bound here, or handed over by systemd so that they outlive a restart."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from firerunner.errors import FireRunnerError
from firerunner.listening import listen


def test_a_socket_is_bound_where_the_settings_say() -> None:
    with listen("web", "127.0.0.1:0", {}) as listener, socket.create_connection(listener.getsockname()):
        assert listener.getsockname()[0] == "127.0.0.1"


def test_an_address_in_use_is_named_with_the_setting_to_change() -> None:
    with listen("gate", "127.0.0.1:0", {}) as first:
        port = first.getsockname()[1]

        with pytest.raises(
            FireRunnerError, match=r"cannot listen on 127.0.0.1:\d+ for the gate.*listen\.gate"
        ):
            listen("gate", f"127.0.0.1:{port}", {})


def test_sockets_meant_for_another_process_are_left_alone() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "gate"}

    with listen("gate", "127.0.0.1:0", environ) as listener:
        assert listener.fileno() != 3


def test_a_connection_made_while_nobody_served_is_accepted_after_the_restart() -> None:
    """The parent plays systemd: it holds the socket; the child is a service that starts late."""
    child = (
        "import os, sys\n"
        "from firerunner.listening import listen\n"
        "environ = {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1', 'LISTEN_FDNAMES': 'gate'}\n"
        "connection, _ = listen('gate', '127.0.0.1:1', environ).accept()\n"
        "connection.sendall(b'here again')\n"
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as held,
        socket.create_connection(held.getsockname()) as guest,
    ):
        script = f"import os; os.dup2({held.fileno()}, 3); os.set_inheritable(3, True)\n" + child

        subprocess.run([sys.executable, "-c", script], pass_fds=[held.fileno()], check=True, timeout=60)

        assert guest.recv(100) == b"here again"


def test_a_unix_socket_may_be_handed_over_too(tmp_path: Path) -> None:
    """`ListenStream=/run/firerunner/web.sock`, for a reverse proxy on the same computer."""
    child = (
        "import os\n"
        "from firerunner.listening import listen\n"
        "environ = {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1', 'LISTEN_FDNAMES': 'web'}\n"
        "connection, _ = listen('web', '127.0.0.1:1', environ).accept()\n"
        "connection.sendall(b'over a file')\n"
    )
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as held,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as proxy,
    ):
        held.bind(str(tmp_path / "web.sock"))
        held.listen()
        proxy.connect(str(tmp_path / "web.sock"))
        script = f"import os; os.dup2({held.fileno()}, 3); os.set_inheritable(3, True)\n" + child

        subprocess.run([sys.executable, "-c", script], pass_fds=[held.fileno()], check=True, timeout=60)

        assert proxy.recv(100) == b"over a file"


def test_nothing_of_the_environment_is_believed_without_a_pid() -> None:
    assert "LISTEN_PID" not in os.environ


def test_a_shells_limit_on_open_files_is_raised() -> None:
    code = (
        "import resource; from firerunner.listening import allow_many_connections; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096)); allow_many_connections(); "
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "(4096, 4096)"
