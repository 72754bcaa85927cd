"""`install.sh` on a computer of a test's own: what it refuses, makes, keeps, takes back and removes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.computer import ROOT, Computer, Release, computer, release

INSTALL = str(ROOT / "install.sh")
CURRENT = "readlink /opt/firerunner/current"


def alone(*arguments: str) -> subprocess.CompletedProcess[str]:
    """On this very computer: for what is refused before anything else."""
    return subprocess.run(
        [INSTALL, *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return release(tmp_path_factory.mktemp("release"), "1.3.0")


def test_help_has_examples_and_says_what_the_exit_status_means() -> None:
    said = alone("--help")

    assert said.returncode == 0
    for wanted in (
        "sudo ./install.sh --yes",
        "--dry-run",
        "--uninstall --purge",
        "--wheel",
        "Exit status: 0 done",
    ):
        assert wanted in said.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--prefix", "/usr"], "there is no option --prefix"),
        (["--purge"], "--purge goes with --uninstall"),
        (["--sha256", "0" * 64], "--sha256 goes with --wheel"),
        (["--wheel"], "--wheel needs a value"),
        (["--uninstall", "--wheel", "x.whl"], "--wheel does not go with --uninstall"),
    ],
)
def test_wrong_flags_are_refused(arguments: list[str], complaint: str) -> None:
    said = alone(*arguments)

    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith(f"install.sh: {complaint}")


@pytest.mark.parametrize(
    ("release_file", "complaint"),
    [
        ("ID=debian\nVERSION_ID=11\n", "this is debian 11"),
        ("ID=ubuntu\nVERSION_ID=20.04\n", "this is ubuntu 20.04"),
        ("ID=fedora\nVERSION_ID=40\n", "this is fedora 40"),
        ("", "this is no system that says its name"),
    ],
)
def test_an_unsupported_system_is_refused(release_file: str, complaint: str, small: Release) -> None:
    with computer() as made:
        made.run("bash", "-euc", 'rm /etc/os-release; printf %s "$0" > /etc/os-release', release_file)
        before = made.everything()

        said = made.run(*small.by_wheel, status=2)

        assert complaint in said.stderr
        assert "Supported are Debian 12 and 13, Ubuntu 22.04 and 24.04" in said.stderr
        assert made.everything() == before


def test_without_root_nothing_is_done_but_a_dry_run_tells(small: Release) -> None:
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    with computer() as made:
        made.says(f"cp -r {small.tree} /opt/release && chmod -R a+rX /opt/release")
        before = made.everything()

        refused = made.run(*nobody, "/opt/release/install.sh", "--yes", status=2)
        told = made.run(*nobody, "/opt/release/install.sh", "--dry-run")

        assert "this needs root" in refused.stderr
        assert "make the system user firerunner" in told.stdout
        assert "make /opt/firerunner/1.2.0-" in told.stdout
        assert made.everything() == before


def test_a_dry_run_changes_nothing_and_nobody_to_ask_means_no(small: Release) -> None:
    with computer() as made:
        before = made.everything()

        said = made.run(small.script, "--dry-run")
        refused = made.run(small.script, status=2)

        assert said.stdout.startswith("install.sh: would:\n  - ")
        assert "Give --yes" in refused.stderr
        made.says("rm -f /run/firerunner-install.lock")
        assert made.everything() == before


def test_install_again_upgrade_and_remove(small: Release, tmp_path: Path) -> None:
    with computer() as made:
        made.run(small.script, "--yes")  # out of the source tree
        assert made.says("firerunner --version") == "firerunner 1.2.0"
        assert (
            made.says("ls -d /opt/firerunner/current/tmp /opt/firerunner/current/bin/hatchling || true") == ""
        )
        assert made.says("stat -c '%A %U %G' /etc/firerunner") == "drwxr-s--- root firerunner"
        example = made.says("stat -c '%A %U %G' /etc/firerunner/config.yaml.example")
        assert example == "-rw-r----- root firerunner"
        assert made.says("runuser -u firerunner -- cat /etc/firerunner/config.yaml.example")
        assert made.says("runuser -u firerunner -- firerunner --version") == "firerunner 1.2.0"
        units = ["firerunner-gate.socket", "firerunner-web.socket", "firerunner.service"]
        assert made.says("ls /etc/systemd/system | grep firerunner").split() == units
        first, before = made.says(CURRENT), made.everything()

        again = made.run(small.script, "--yes")

        assert "is already installed; nothing to do" in again.stdout
        assert made.everything() == before

        made.says("echo mine > /etc/firerunner/config.yaml; echo kept > /etc/firerunner/config.yaml.example")
        made.says("mkdir -p /opt/firerunner/1.0.0-0123456789ab/bin /opt/firerunner/theirs")
        made.run(*release(tmp_path, "1.3.0").by_wheel)

        assert made.says("firerunner --version") == "firerunner 1.3.0"
        assert made.says("readlink /opt/firerunner/previous") == first
        assert made.says("ls /opt/firerunner").split() == [
            first,
            made.says(CURRENT),
            "current",
            "previous",
            "theirs",
        ]
        assert made.says("cat /etc/firerunner/*") == "mine\nkept"

        made.says("install -d -o firerunner /var/lib/firerunner && echo x > /var/lib/firerunner/ledger.db")
        made.run(small.script, "--uninstall", "--yes")

        gone = "/opt/firerunner /usr/local/bin/firerunner /etc/systemd/system/fire*"
        assert made.says(f"ls -d {gone} || true") == ""
        assert made.says("cat /etc/firerunner/config.yaml /var/lib/firerunner/ledger.db") == "mine\nx"
        assert made.says("id -un firerunner") == "firerunner"

        made.run(small.script, "--uninstall", "--purge", "--yes")

        assert made.says("ls -d /etc/firerunner /var/lib/firerunner || true") == ""
        assert made.run("id", "firerunner", status=1).stdout == ""
        assert "nothing to do" in made.run(small.script, "--uninstall", "--purge", "--yes").stdout


def test_a_wheel_that_is_not_what_it_should_be_is_refused(small: Release, tmp_path: Path) -> None:
    other = tmp_path / small.wheel.name
    other.write_bytes(small.wheel.read_bytes() + b"more")
    older = release(tmp_path, "1.1.0").wheel
    sums = small.wheel.with_name("SHA256SUMS").read_text()
    with computer() as made:
        before = made.everything()
        unknown = made.run(small.script, "--yes", "--wheel", str(other), status=2)
        (tmp_path / "SHA256SUMS").write_text("")
        unnamed = made.run(small.script, "--yes", "--wheel", str(other), status=2)
        (tmp_path / "SHA256SUMS").write_text(sums)
        changed = made.run(small.script, "--yes", "--wheel", str(other), status=2)
        told = made.run(small.script, "--yes", "--wheel", str(other), "--sha256", "0" * 64, status=2)
        mixed = made.run(small.script, "--yes", "--wheel", str(older), status=2)
        made.says("rm -f /run/firerunner-install.lock")

        assert "nothing says what" in unknown.stderr
        assert "does not name" in unnamed.stderr
        assert "has another SHA-256" in changed.stderr
        assert "has another SHA-256" in told.stderr
        assert "is not version 1.2.0" in mixed.stderr
        assert made.everything() == before


def test_too_little_room_is_seen_before_anything_is_done(small: Release) -> None:
    with computer("size=100m") as made:
        said = made.run(*small.by_wheel, status=2)

        assert "/opt has 100 MiB free, and 400 MiB are needed" in said.stderr
        assert made.says("ls -A /opt") == ""
        made.run("id", "firerunner", status=1)


@pytest.fixture(scope="module")
def theirs(small: Release) -> Iterator[Computer]:
    """One for several tests, where 1.2.0 is in force before and after each."""
    with computer() as made:
        made.run(*small.by_wheel)
        yield made


def test_a_disk_that_gets_full_leaves_the_old_version_in_force(
    theirs: Computer, small: Release, newer: Release
) -> None:
    files = int(theirs.says("find /opt | wc -l"))
    theirs.says(f"mount -o remount,nr_inodes={files + 400} /opt")
    before = theirs.says("find /opt | sort")

    said = theirs.run(*newer.by_wheel, status=1)

    theirs.says("mount -o remount,nr_inodes=100000 /opt")
    assert "the disk of /opt/firerunner is full. Free 400 MiB and run again" in said.stderr
    assert "in force is 1.2.0-" in said.stderr
    assert theirs.says("find /opt | sort") == before
    assert theirs.says("firerunner --version") == "firerunner 1.2.0"


def half_made(made: Computer, kept: str) -> str:
    """The directory of a version that is being made, as soon as there is one besides `kept`."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = made.says(
            f"ls -d /opt/firerunner/*-???????????? 2> /dev/null | grep -v -e '/{kept}$' || true"
        )
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("no version is being made")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_broken_off_it_leaves_the_old_version_in_force(
    number: signal.Signals, theirs: Computer, small: Release, newer: Release
) -> None:
    before = theirs.says(CURRENT)
    with theirs.start("bash", "-c", 'echo $$; exec "$@"', "-", *newer.by_wheel) as process:
        assert process.stdout is not None
        inside = process.stdout.readline().strip()
        there = half_made(theirs, before)
        theirs.says(f"kill -{number.value} {inside}")
        _, complaint = process.communicate(timeout=60)

    assert theirs.says(CURRENT) == before
    assert theirs.says("firerunner --version") == "firerunner 1.2.0"
    if number is not signal.SIGKILL:
        assert process.returncode == 130
        assert f"{there} was removed again; in force is {before} as before" in complaint
        assert "interrupted while installing. What was done stays; run it again to go on" in complaint
        assert theirs.says(f"ls -d {there} || true") == ""
        assert theirs.says("pgrep -f -- '[-]m (venv|ensurepip)|[/]pip ' || true") == ""
        return
    theirs.says("flock --timeout 60 /run/firerunner-install.lock true")  # its last child still has it

    theirs.run(*newer.by_wheel)

    assert theirs.says("firerunner --version") == "firerunner 1.3.0"
    theirs.run(*small.by_wheel)


def test_broken_off_at_the_question_it_says_that_nothing_was_done(small: Release) -> None:
    with computer() as made:
        before = made.everything()
        asked = made.start("script", "-qec", f"exec {small.script}", "/dev/null", stdin=subprocess.PIPE)
        with asked as process:
            assert process.stdin is not None
            assert process.stdout is not None
            shown = ""
            while "Go on?" not in shown:
                shown += process.stdout.read(1)
            process.stdin.write("\x03")
            process.stdin.flush()
            rest, _ = process.communicate(timeout=60)
        made.says("rm -f /run/firerunner-install.lock")

        assert process.returncode == 130
        assert "install.sh: interrupted. Nothing was done" in rest
        assert made.everything() == before


def test_two_at_once_take_turns(small: Release) -> None:
    with computer() as made:
        said = made.run("flock", "/run/firerunner-install.lock", *small.by_wheel, status=2)

        assert "another install.sh runs" in said.stderr
        assert made.says("ls -A /opt") == ""


def test_a_running_service_is_restarted_after_its_ledger_was_copied(
    theirs: Computer, small: Release, newer: Release
) -> None:
    theirs.has_systemd(active=True)
    theirs.says(
        "install -d -o firerunner -m 711 /var/lib/firerunner && runuser -u firerunner -- python3 -c '"
        'import sqlite3; sqlite3.connect("/var/lib/firerunner/ledger.db").execute("create table t (x)")\''
    )

    left = theirs.run(*newer.by_wheel, "--no-restart")

    assert "restart firerunner.service" not in theirs.asked_of_systemd()
    assert "the running service takes it up when it is restarted" in left.stdout
    assert theirs.says("ls /var/lib/firerunner") == "ledger.db"

    theirs.run(*small.by_wheel)  # the way back to the version before, which is still there

    assert "restart firerunner.service" in theirs.asked_of_systemd()
    assert theirs.says("firerunner --version") == "firerunner 1.2.0"
    copied = theirs.says("stat -c '%A %U' /var/lib/firerunner/ledger.db.before-upgrade")
    assert copied == "-rw------- firerunner"


def test_a_service_that_still_runs_another_version_is_restarted(theirs: Computer, small: Release) -> None:
    theirs.has_systemd(active=True)
    theirs.says("rm -f /run/systemctl.log")
    older = "exec -a /opt/firerunner/1.1.0-0123456789ab/bin/python sleep 100"
    with theirs.start("bash", "-c", f"echo $$ > /run/main-pid; echo on; {older}") as process:
        assert process.stdout is not None
        process.stdout.readline()

        left = theirs.run(*small.by_wheel, "--no-restart")
        said = theirs.run(*small.by_wheel)

        process.kill()
    theirs.says("rm /run/main-pid")
    assert "nothing to do" in left.stdout
    assert "take the running service from 1.1.0-0123456789ab to 1.2.0-" in said.stdout
    assert theirs.asked_of_systemd().count("restart firerunner.service") == 1
    assert "nothing to do" in theirs.run(*small.by_wheel).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a ledger of root's")
def test_the_ledger_of_a_service_that_runs_as_root_is_copied(
    theirs: Computer, small: Release, newer: Release
) -> None:
    theirs.has_systemd(active=True)
    theirs.says(
        "rm -rf /var/lib/firerunner && install -d -m 711 /var/lib/firerunner && umask 077 && python3 -c '"
        'import sqlite3; sqlite3.connect("/var/lib/firerunner/ledger.db").execute("create table t (x)")\''
    )

    theirs.run(*newer.by_wheel)

    copied = theirs.says("stat -c '%A %U' /var/lib/firerunner/ledger.db.before-upgrade")
    theirs.says("rm -r /var/lib/firerunner")
    theirs.run(*small.by_wheel)
    assert copied == "-rw------- root"


def test_a_ledger_that_finds_no_room_for_a_copy_leaves_nothing_of_it(
    theirs: Computer, small: Release, newer: Release
) -> None:
    theirs.has_systemd(active=True)
    theirs.says("rm -rf /var/lib/firerunner && mkdir /var/lib/firerunner")
    theirs.says("mount -t tmpfs -o size=1m none /var/lib/firerunner")
    theirs.says(
        'python3 -c \'import sqlite3; ledger = sqlite3.connect("/var/lib/firerunner/ledger.db"); '
        'ledger.execute("create table t as select zeroblob(600000)"); ledger.commit()\''
    )

    said = theirs.run(*newer.by_wheel, status=1)

    left = theirs.says("ls /var/lib/firerunner")
    theirs.says("umount /var/lib/firerunner && rmdir /var/lib/firerunner")
    theirs.run(*small.by_wheel)
    assert "the ledger could not be copied, so the service was not restarted" in said.stderr
    assert left == "ledger.db"


def test_what_is_not_running_is_not_started(theirs: Computer, small: Release) -> None:
    theirs.has_systemd()
    theirs.says("rm -f /run/active /run/systemctl.log; echo 'gitlab: {}' > /etc/firerunner/config.yaml")
    theirs.says("echo '# older' > /etc/systemd/system/firerunner.service")

    said = theirs.run(*small.by_wheel)

    assert {line.split()[0] for line in theirs.asked_of_systemd()} == {"daemon-reload", "is-active"}
    assert "firerunner config check && systemctl enable --now" in said.stdout


def test_nothing_is_removed_under_a_running_machine(theirs: Computer, small: Release) -> None:
    before = theirs.everything()
    keeper = "exec -a 'python -I -m firerunner.machines.qemu.keeper /x' sleep 100"
    with theirs.start("bash", "-c", f"echo on; {keeper}") as process:
        assert process.stdout is not None
        process.stdout.readline()
        theirs.says("until pgrep -f [q]emu.keeper; do sleep 0.01; done")

        said = theirs.run(small.script, "--uninstall", "--yes", status=2)

        process.kill()
        theirs.says("pkill -f [q]emu.keeper || true")
    assert "1 microVMs run here. Let them end:" in said.stderr
    assert theirs.everything() == before


def test_a_machine_that_is_started_while_somebody_is_asked_is_not_left_alone(
    theirs: Computer, small: Release
) -> None:
    theirs.has_systemd()
    keeper = "exec -a 'python -I -m firerunner.machines.qemu.keeper /x' sleep 100"
    until = "until pgrep -f '[q]emu.keeper'; do sleep 0.01; done"
    starts = f"({keeper} > /dev/null 2>&1 9>&- &); {until}"
    theirs.has_program("systemctl", f"#!/bin/bash\n[ $1 != disable ] || {{ {starts}; }}\n")

    said = theirs.run(small.script, "--uninstall", "--yes", status=1)

    theirs.says("pkill -f [q]emu.keeper")
    theirs.has_systemd()
    assert "the service is stopped, but microVMs were started meanwhile" in said.stderr
    assert theirs.says("firerunner --version").startswith("firerunner 1.")
    assert theirs.says("ls /etc/systemd/system/firerunner.service")


def with_apparmor(made: Computer, switch: str, *, takes: bool) -> None:
    """A kernel with this switch, where AppArmor's parser takes profiles or does not."""
    made.has_systemd()
    made.says("findmnt /proc/sys/kernel > /dev/null || mount -t tmpfs none /proc/sys/kernel")
    made.says(f"echo {switch} > /proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    made.has_program("apparmor_parser", f'#!/bin/sh\necho "$@" >> /run/parser.log\nexit {int(not takes)}\n')
    made.has_program("dpkg-query", "#!/bin/sh\necho install ok installed\n")


def test_a_profile_is_written_once_the_kernel_has_taken_it(tmp_path: Path, small: Release) -> None:
    spaced = tmp_path / "a place" / "firerunner"
    shutil.copytree(small.tree, spaced)
    command = [str(spaced / "install.sh"), "--yes", "--wheel", str(small.wheel)]
    with computer() as made:
        with_apparmor(made, "0", takes=True)
        made.run(*command)
        assert made.says("ls /etc/apparmor.d/firerunner /run/parser.log 2> /dev/null || true") == ""

        with_apparmor(made, "1", takes=False)
        refused = made.run(*command, status=1)
        assert "AppArmor does not take the profile" in refused.stderr
        assert made.says("ls /etc/apparmor.d/firerunner || true") == ""

        with_apparmor(made, "1", takes=True)
        made.run(*command)
        assert made.says("sort -u /run/parser.log") == f"-r {spaced}/deploy/systemd/apparmor"
        assert "profile firerunner" in made.says("cat /etc/apparmor.d/firerunner")
        assert "nothing to do" in made.run(*command).stdout


def test_a_place_that_cannot_be_written_is_not_called_full(small: Release) -> None:
    with computer() as made:
        made.says("echo > /opt/firerunner")

        said = made.run(*small.by_wheel, status=1)

    assert "could not be made" in said.stderr
    assert "is full" not in said.stderr


def test_an_address_with_a_password_is_not_shown(tmp_path: Path) -> None:
    wanting = release(tmp_path, locked=f"nowhere==1.0 --hash=sha256:{'0' * 64}\n")
    index = "https://user:canary-of-the-index@127.0.0.1:1/simple"
    with computer() as made:
        said = made.run(
            *wanting.by_wheel, env={"PIP_INDEX_URL": index, "PIP_RETRIES": "0", "PIP_TIMEOUT": "2"}, status=1
        )

        assert "pip failed, see above" in said.stderr
        assert "nowhere" in said.stderr
        assert "canary-of-the-index" not in said.stdout + said.stderr
        assert made.says("ls -A /opt") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to the directory's group")
def test_secrets_written_by_root_can_be_read_by_the_service(tmp_path: Path) -> None:
    from firerunner.setup.secret_files import write_secret

    tmp_path.chmod(0o2750)
    os.chown(tmp_path, 0, 65534)
    tmp_path.chmod(0o2750)

    write_secret(tmp_path / "small.token", "glrt-x")

    status = (tmp_path / "small.token").stat()
    assert (status.st_gid, status.st_mode & 0o777) == (65534, 0o640)
