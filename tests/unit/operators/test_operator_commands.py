"""The commands that show: the same facts for people and for programs, and nothing that a terminal obeys."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from firerunner.cli.events import following
from firerunner.cli.reference import reference
from firerunner.errors import FireRunnerError
from firerunner.ledger import JournalEntry
from tests.unit.operators.operators_given import HeldClock, ledger_of, machine_id, run, settings_of

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def said(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_page_of_commands_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "run `make reference`"


def test_top_shows_pools_hosts_and_machines(worked: Path) -> None:
    seen = json.loads(said("top", "--once", "--json", "-c", str(worked)))

    assert [(pool["name"], pool["limit"], pool["machines"]) for pool in seen["pools"]] == [
        ("small", 5, {"waiting": 2})
    ]
    assert seen["pools"][0]["jobs"] == {"assigned": 1}
    assert [(host["name"], host["machines"], host["used"]["vcpu"]) for host in seen["hosts"]] == [
        ("local", 2, 2)
    ]
    assert {each["machine_id"]: each["project"] for each in seen["machines"]} == {
        machine_id(3): "group/project",
        machine_id(4): None,
    }
    shown = said("top", "-c", str(worked))
    assert machine_id(3) in shown
    assert "build [/x]" in shown


def test_jobs_with_names_that_look_like_markup(worked: Path) -> None:
    assert "build [/x]" in said("jobs", "--all", "-c", str(worked))


def test_events_of_one_subject_oldest_first(worked: Path) -> None:
    rows = [json.loads(line) for line in said("events", "8", "--json", "-c", str(worked)).splitlines()]

    assert [row["to_state"] for row in rows] == ["taken", "assigned", "returned"]
    assert rows[-1]["detail"]["reason"] == "its machine died"
    shown = said("events", "8", "-n", "1", "-c", str(worked))
    assert shown == (
        "2025-10-11 00:01:00Z job 8 moved assigned→returned "
        f'reason="its machine died" machine={machine_id(2)}\n'
    )


def test_events_are_followed(worked: Path) -> None:
    async def follow() -> list[str]:
        async with ledger_of(settings_of(worked), HeldClock()) as ledger:
            rows = following(ledger.journal, (await ledger.last_journal(limit=1))[0].seq, None)
            await ledger.note("host", "local", "one")
            first = await anext(rows)
            await ledger.note("host", "local", "two")
            return [first.event, (await anext(rows)).event]

    assert asyncio.run(follow()) == ["one", "two"]


def test_a_row_that_becomes_visible_after_one_of_a_higher_number_is_followed_too() -> None:
    visible = [4]

    async def journal(after: int, _subject: str | None, _limit: int) -> list[JournalEntry]:
        seen = sorted(number for number in visible if number > after)
        return [JournalEntry(number, 0.0, "host", "x", "said", None, None, {}, None) for number in seen]

    async def follow() -> list[int]:
        rows = following(journal, 4, None)
        visible.append(6)
        first = await anext(rows)
        visible.append(5)
        return [first.seq, (await anext(rows)).seq]

    assert asyncio.run(follow()) == [6, 5]


def test_ctrl_c_ends_it_without_a_word(worked: Path) -> None:
    command = [sys.executable, "-m", "firerunner", "events", "--follow", "-c", str(worked)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        started.stdout.readline()
        started.send_signal(signal.SIGINT)
        _, told = started.communicate(timeout=60)

    assert (started.returncode, told) == (130, "")


def test_logs_of_a_job_are_its_rows_and_its_machines(worked: Path) -> None:
    found = json.loads(said("logs", "7", "--json", "-c", str(worked)))

    assert found["job"]["gitlab_status"] == "success"
    assert [machine["machine_id"] for machine in found["machines"]] == [machine_id(1)]
    assert {row["subject_kind"] for row in found["journal"]} == {"job", "machine"}
    assert [row["seq"] for row in found["journal"]] == sorted(row["seq"] for row in found["journal"])
    assert found["console"] is None
    assert "credential_hash" not in found["machines"][0]


def test_logs_of_a_machine_end_with_its_console_in_which_nothing_is_obeyed(worked: Path) -> None:
    folder = worked.parent / "state" / "machines" / machine_id(3)
    folder.mkdir(parents=True)
    (folder / "console.log").write_bytes(b"firerunner: 1.00 booted\r\n\x1b[2Jgone\x07\n")

    shown = said("logs", machine_id(3), "-c", str(worked))

    assert shown.endswith(f"console of {machine_id(3)}:\nfirerunner: 1.00 booted\n[2Jgone\n")


@pytest.mark.parametrize("subject", ["99", "fr-ffffffffffff", "9" * 30])
def test_logs_of_what_nobody_knows(worked: Path, subject: str) -> None:
    error = run("logs", subject, "-c", str(worked)).exception

    assert isinstance(error, FireRunnerError)
    assert f"{subject}. See `firerunner machines --all` and `firerunner jobs --all`" in str(error)


def test_the_report_as_csv_and_as_json_is_the_same(worked: Path) -> None:
    (row,) = csv.DictReader(io.StringIO(said("report", "--by", "pool", "--csv", "-c", str(worked))))
    (line,) = json.loads(said("report", "--by", "pool", "--json", "-c", str(worked)))

    assert (line["pool"], line["jobs"], line["success"], line["returned"], line["open"]) == (
        "small",
        3,
        1,
        1,
        1,
    )
    del line["machine_minutes"]  # of machines that are still there: it grows
    assert float(row.pop("machine_minutes")) > 0
    assert row == {name: str(value) for name, value in line.items()}
    assert "machine-minutes" in said("report", "-c", str(worked))


def test_shells_can_complete_commands() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("firerunner")],
        env={
            "PATH": "/usr/bin:/bin",
            "_FIRERUNNER_COMPLETE": "complete_bash",
            "COMP_WORDS": "firerunner su",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout.split() == ["support-bundle"]
