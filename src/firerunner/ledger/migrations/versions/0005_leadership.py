"""A lease that beats instead of running out, and signals from controllers that do not lead."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("leases") as leases:
        leases.add_column(sa.Column("beats", sa.BigInteger(), nullable=False, server_default="0"))
        leases.drop_column("expires_at")
    with op.batch_alter_table("leases") as leases:
        leases.alter_column("beats", server_default=None)
    op.create_table(
        "signals",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, autoincrement=True
        ),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_signals"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("signals")
    with op.batch_alter_table("leases") as leases:
        leases.add_column(sa.Column("expires_at", sa.Double(), nullable=False, server_default="0"))
        leases.drop_column("beats")
    with op.batch_alter_table("leases") as leases:
        leases.alter_column("expires_at", server_default=None)
