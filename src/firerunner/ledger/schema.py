"""The tables. `migrations/` builds the same ones step by step; a test holds the two together.

Only what SQLite and PostgreSQL both know. Times are Unix seconds (`Double`), states are their words,
secrets are Fernet tokens and live in columns that no list query selects.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

NAMES: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Every constraint has a name, so that a later migration can change it on both databases."""

metadata: Final = sa.MetaData(naming_convention=NAMES)

SERIAL: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A 64-bit number that the database counts up; SQLite does that for `INTEGER` only."""

leases: Final = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("holder", sa.String(200), nullable=False),
    sa.Column("epoch", sa.BigInteger(), nullable=False),
    sa.Column("beats", sa.BigInteger(), nullable=False),
)

signals: Final = sa.Table(
    "signals",
    metadata,
    sa.Column("seq", SERIAL, primary_key=True),
    sa.Column("at", sa.Double(), nullable=False),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("body", sa.JSON(), nullable=False),
    sqlite_autoincrement=True,
)

machines: Final = sa.Table(
    "machines",
    metadata,
    sa.Column("machine_id", sa.String(32), primary_key=True),
    sa.Column("pool", sa.String(200), nullable=False),
    sa.Column("host", sa.String(200), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("state_since", sa.Double(), nullable=False),
    sa.Column("vcpu", sa.Integer(), nullable=False),
    sa.Column("memory_mib", sa.Integer(), nullable=False),
    sa.Column("disk_mib", sa.Integer(), nullable=False),
    sa.Column("image_digest", sa.String(200), nullable=False),
    sa.Column("created_at", sa.Double(), nullable=False),
    sa.Column("credential_hash", sa.String(64)),
    sa.Column("boots", sa.Integer(), nullable=False),
    sa.Column("ask_started_at", sa.Double()),
    sa.Column("room_held", sa.Boolean(), nullable=False),
    sa.Column("manager_known", sa.Boolean(), nullable=False),
    sa.Column("vmm_started_at", sa.Double()),
    sa.Column("booted_at", sa.Double()),
    sa.Column("ended_reported_at", sa.Double()),
    sa.Column("exit_code", sa.Integer()),
    sa.Column("reason", sa.Text(), nullable=False),
    sa.Column("gitlab", sa.String(64), nullable=False),
    sa.Column("held_until", sa.Double()),
    sa.Column("baked", sa.String(64)),
)

jobs: Final = sa.Table(
    "jobs",
    metadata,
    sa.Column("job_id", sa.BigInteger(), primary_key=True, autoincrement=False),
    sa.Column("pool", sa.String(200), nullable=False),
    # Unique: never two jobs for one machine. One column: never two machines for one job.
    sa.Column(
        "machine_id",
        sa.String(32),
        sa.ForeignKey("machines.machine_id", ondelete="SET NULL"),
        unique=True,
    ),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("state_since", sa.Double(), nullable=False),
    sa.Column("name", sa.Text(), nullable=False),
    sa.Column("project_id", sa.BigInteger(), nullable=False),
    sa.Column("project_path", sa.Text(), nullable=False),
    sa.Column("timeout_s", sa.Integer()),
    sa.Column("taken_at", sa.Double(), nullable=False),
    sa.Column("gitlab_status", sa.String(64)),
    sa.Column("failure_reason", sa.String(64)),
    sa.Column("first_call_at", sa.Double()),
    sa.Column("attempts", sa.Integer(), nullable=False),
    sa.Column("trace_bytes", sa.BigInteger(), nullable=False),
    sa.Column("reason", sa.Text(), nullable=False),
    sa.Column("token", sa.LargeBinary()),
    # GitLab counts its jobs; another GitLab does too. The ledger's own number is `job_id`.
    sa.Column("gitlab", sa.String(64), nullable=False),
    sa.Column("gitlab_job_id", sa.BigInteger(), nullable=False),
    sa.UniqueConstraint("gitlab", "gitlab_job_id", name="uq_jobs_gitlab"),
)

sized_runners: Final = sa.Table(
    "sized_runners",
    metadata,
    sa.Column("pool", sa.String(200), primary_key=True),
    sa.Column("gitlab", sa.String(64), nullable=False),
    sa.Column("template", sa.String(200), nullable=False),
    sa.Column("tag", sa.String(200), nullable=False),
    sa.Column("project_id", sa.BigInteger()),
    sa.Column("vcpu", sa.Integer(), nullable=False),
    sa.Column("memory_mib", sa.Integer(), nullable=False),
    sa.Column("runner_id", sa.BigInteger(), nullable=False),
    sa.Column("token", sa.LargeBinary(), nullable=False),
    sa.Column("created_at", sa.Double(), nullable=False),
    sa.Column("used_at", sa.Double(), nullable=False),
    sa.Column("removing", sa.Boolean(), nullable=False),
)

host_orders: Final = sa.Table(
    "host_orders",
    metadata,
    sa.Column("host", sa.String(200), primary_key=True),
    sa.Column("use", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text(), nullable=False),
    sa.Column("since", sa.Double(), nullable=False),
    sa.Column("believed_at", sa.Double()),
)

answers: Final = sa.Table(
    "answers",
    metadata,
    sa.Column("seq", SERIAL, primary_key=True),
    sa.Column("machine_id", sa.String(32), sa.ForeignKey("machines.machine_id"), nullable=False, index=True),
    # NULL until the answer has been read and its job written down.
    sa.Column("job_id", sa.BigInteger(), sa.ForeignKey("jobs.job_id"), unique=True),
    sa.Column("kept_at", sa.Double(), nullable=False),
    sa.Column("raw", sa.LargeBinary(), nullable=False),
    sqlite_autoincrement=True,
)

journal: Final = sa.Table(
    "journal",
    metadata,
    sa.Column("seq", SERIAL, primary_key=True),
    sa.Column("at", sa.Double(), nullable=False, index=True),
    sa.Column("subject_kind", sa.String(16), nullable=False),
    sa.Column("subject", sa.String(200), nullable=False),
    sa.Column("event", sa.String(64), nullable=False),
    sa.Column("from_state", sa.String(16)),
    sa.Column("to_state", sa.String(16)),
    sa.Column("detail", sa.JSON(), nullable=False),
    sa.Column("epoch", sa.BigInteger()),
    sa.Index(None, "subject", "seq"),
    # Numbers are never used twice, also when all rows have been pruned: readers keep a place by `seq`.
    sqlite_autoincrement=True,
)

intents: Final = sa.Table(
    "intents",
    metadata,
    # The journal row that says `intended`; the row here goes when the side effect is done.
    sa.Column("seq", SERIAL, sa.ForeignKey("journal.seq"), primary_key=True, autoincrement=False),
)
