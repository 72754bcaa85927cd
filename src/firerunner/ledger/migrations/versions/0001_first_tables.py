"""The first tables: machines, jobs, answers, journal, intents, leases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "machines",
        sa.Column("machine_id", sa.String(32), nullable=False),
        sa.Column("pool", sa.String(200), nullable=False),
        sa.Column("host", sa.String(200), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
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
        sa.PrimaryKeyConstraint("machine_id", name="pk_machines"),
    )
    op.create_index("ix_machines_state", "machines", ["state"])
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("pool", sa.String(200), nullable=False),
        sa.Column("machine_id", sa.String(32)),
        sa.Column("state", sa.String(16), nullable=False),
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
        sa.PrimaryKeyConstraint("job_id", name="pk_jobs"),
        sa.UniqueConstraint("machine_id", name="uq_jobs_machine_id"),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machines.machine_id"], name="fk_jobs_machine_id", ondelete="SET NULL"
        ),
    )
    op.create_index("ix_jobs_state", "jobs", ["state"])
    op.create_table(
        "answers",
        sa.Column("seq", SERIAL, nullable=False),
        sa.Column("machine_id", sa.String(32), nullable=False),
        sa.Column("job_id", sa.BigInteger()),
        sa.Column("kept_at", sa.Double(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_answers"),
        sa.UniqueConstraint("job_id", name="uq_answers_job_id"),
        sa.ForeignKeyConstraint(["machine_id"], ["machines.machine_id"], name="fk_answers_machine_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_answers_job_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_answers_machine_id", "answers", ["machine_id"])
    op.create_table(
        "journal",
        sa.Column("seq", SERIAL, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("subject_kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("event", sa.String(64), nullable=False),
        sa.Column("from_state", sa.String(16)),
        sa.Column("to_state", sa.String(16)),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("epoch", sa.BigInteger()),
        sa.PrimaryKeyConstraint("seq", name="pk_journal"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_journal_at", "journal", ["at"])
    op.create_index("ix_journal_subject_seq", "journal", ["subject", "seq"])
    op.create_table(
        "intents",
        sa.Column("seq", SERIAL, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_intents"),
        sa.ForeignKeyConstraint(["seq"], ["journal.seq"], name="fk_intents_seq"),
    )


def downgrade() -> None:
    for table in ("intents", "journal", "answers", "jobs", "machines", "leases"):
        op.drop_table(table)
