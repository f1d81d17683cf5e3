"""Alembic's entry: runs the migrations on the connection that the server hands over."""

from alembic import context

from sn46.api.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
