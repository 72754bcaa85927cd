"""Run by Alembic for each command: uses the connection it was given, in that one's transaction."""

from alembic import context

from firerunner.ledger.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter a table: Alembic makes a new one and copies.
    render_as_batch=True,
    # True for SQLite too, because database.py begins transactions itself.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
