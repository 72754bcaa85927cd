"""A ledger that an older version has filled goes forward to this one and back, and nothing in it is lost."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from ledger_given import ANSWER, A, B, In, job_assigned, machine_in

from firerunner.errors import LedgerError
from firerunner.ledger import JobState, Ledger, MachineState, migrate, versions

pytestmark = pytest.mark.anyio

REVISIONS = [each.name for each in migrate.revisions()]
FORGOTTEN = {("leases", "expires_at")}
"""What 0005 has taken away: the old way of leading, which begins anew with each start."""

Rows = dict[str, list[dict[str, Any]]]


@pytest.mark.parametrize("revision", REVISIONS[:-1])
async def test_every_row_of_an_older_version_outlives_the_way_there_and_back(
    in_database: In, revision: str
) -> None:
    def there_and_back(connection: sa.Connection) -> tuple[Rows, Rows, Rows, Rows]:
        migrate.upgrade(connection, revision)
        _fill(connection)
        before = _rows(connection)
        migrate.upgrade(connection)
        now = _rows(connection)
        migrate.downgrade(connection, revision)
        back = _rows(connection)
        migrate.upgrade(connection)
        return before, now, back, _rows(connection)

    before, now, back, again = await in_database(there_and_back)

    assert back == before
    assert all(before.values())
    for table, rows in before.items():
        kept = [{name: row[name] for name in rows[0] if name in row} for row in now[table]]
        assert kept == [{name: row[name] for name in kept[0]} for row in rows]
    assert again == now


async def test_what_this_version_has_written_can_be_read_after_a_rollback_and_an_upgrade(
    ledger: Ledger, url: str, keys, clock
) -> None:
    await job_assigned(ledger)
    await machine_in(ledger, MachineState.WAITING, B)
    rows = await ledger.journal(limit=1000)
    await ledger.aclose()

    await versions.roll_back(url, "0005")
    at = await versions.revision_of(url)
    again = await Ledger.open(url, keys, clock)

    job = await again.job(7)
    assert at == "0005"
    assert job is not None
    assert (job.state, job.machine_id) == (JobState.ASSIGNED, A)
    assert (await again.payload(7), await again.job_token(7)) == (ANSWER, "canary-job-token")
    assert await again.journal(limit=1000) == rows
    await again.note("host", "local", "a row")
    assert (await again.last_journal(limit=1))[0].seq > rows[-1].seq
    await again.aclose()


async def test_a_look_leaves_an_older_ledger_as_it_is(ledger: Ledger, url: str, keys, clock) -> None:
    await ledger.aclose()
    await versions.roll_back(url, "0005")

    with pytest.raises(
        LedgerError, match=f"revision 0005, this version of FireRunner works with {REVISIONS[-1]}"
    ):
        await Ledger.open(url, keys, clock, as_it_is=True)

    assert await versions.revision_of(url) == "0005"


@pytest.mark.parametrize("revision", ["0042", "base", REVISIONS[-1]])
async def test_there_is_no_way_back_to_what_is_not_older(ledger: Ledger, url: str, revision: str) -> None:
    with pytest.raises(LedgerError, match=f"no way back .* to {revision}. The older ones are: 0001, 0002"):
        await versions.roll_back(url, revision)


def _fill(connection: sa.Connection) -> None:
    """A row in every table, each column with a value of its kind; rows that name others name these."""
    found = sa.MetaData()
    found.reflect(connection)
    for table in found.sorted_tables:
        if table.name != "alembic_version":
            connection.execute(table.insert().values({c.name: _value(table.name, c) for c in table.columns}))


def _value(table: str, column: sa.Column[Any]) -> Any:
    if column.name == "machine_id":
        return A
    if column.name in {"seq", "job_id", "gitlab_job_id"}:
        return 7
    if column.name in {"detail", "body"}:
        return {"machine": A}
    if (table, column.name) in FORGOTTEN:
        return 0.0
    kinds: list[tuple[type[Any], Any]] = [
        (sa.LargeBinary, b"secret"),
        (sa.Boolean, True),
        (sa.Integer, 3),
        (sa.Float, 4.5),
        (sa.String, "gitlab"),
    ]
    return next(value for kind, value in kinds if isinstance(column.type, kind))


def _rows(connection: sa.Connection) -> Rows:
    found = sa.MetaData()
    found.reflect(connection)
    tables = [table for table in found.sorted_tables if table.name != "alembic_version"]
    return {
        table.name: [dict(row._mapping) for row in connection.execute(sa.select(table))] for table in tables
    }
