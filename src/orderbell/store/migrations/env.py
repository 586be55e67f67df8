"""What Alembic runs before the steps: they all use the connection, and the transaction, of `store.migrate`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
