"""Several GitLabs: machines and jobs name theirs, and a job's number in the ledger is not always GitLab's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ONLY = "gitlab"
"""What the only GitLab was, and is, called."""


def upgrade() -> None:
    with op.batch_alter_table("machines") as machines:
        machines.add_column(sa.Column("gitlab", sa.String(64), nullable=False, server_default=ONLY))
    with op.batch_alter_table("machines") as machines:
        machines.alter_column("gitlab", server_default=None)
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("gitlab", sa.String(64), nullable=False, server_default=ONLY))
        jobs.add_column(sa.Column("gitlab_job_id", sa.BigInteger()))
    op.execute("UPDATE jobs SET gitlab_job_id = job_id")
    with op.batch_alter_table("jobs") as jobs:
        jobs.alter_column("gitlab", server_default=None)
        jobs.alter_column("gitlab_job_id", existing_type=sa.BigInteger(), nullable=False)
        jobs.create_unique_constraint("uq_jobs_gitlab", ["gitlab", "gitlab_job_id"])


def downgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_constraint("uq_jobs_gitlab", type_="unique")
        jobs.drop_column("gitlab_job_id")
        jobs.drop_column("gitlab")
    with op.batch_alter_table("machines") as machines:
        machines.drop_column("gitlab")
