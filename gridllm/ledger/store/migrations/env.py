"""Alembic's entry: runs the migrations on the connection, and in the transaction, that ``migrate`` made."""

from __future__ import annotations

from alembic import context

from gridllm.ledger.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():  # the caller's own: committed, or not, as a whole
    context.run_migrations()
