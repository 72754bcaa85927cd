"""The mark of all that a machine's pool gave it at its boot."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("machines") as machines:
        machines.add_column(sa.Column("baked", sa.String(64)))


def downgrade() -> None:
    with op.batch_alter_table("machines") as machines:
        machines.drop_column("baked")
