"""Runs the migrations on the connection that `Database.migrate` hands over."""

from alembic import context

from service.records.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,  # of PostgreSQL by itself, of SQLite as `Database` sets it up
    render_as_batch=True,  # SQLite changes a table by copying it
)
with context.begin_transaction():
    context.run_migrations()
