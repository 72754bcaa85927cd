"""Until when a failed job's machine is kept for a look."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("machines") as machines:
        machines.add_column(sa.Column("held_until", sa.Double()))


def downgrade() -> None:
    with op.batch_alter_table("machines") as machines:
        machines.drop_column("held_until")
