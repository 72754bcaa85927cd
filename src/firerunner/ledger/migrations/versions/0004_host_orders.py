"""What operators have said of hosts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "host_orders",
        sa.Column("host", sa.String(200), nullable=False),
        sa.Column("use", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("believed_at", sa.Double()),
        sa.PrimaryKeyConstraint("host", name="pk_host_orders"),
    )


def downgrade() -> None:
    op.drop_table("host_orders")
