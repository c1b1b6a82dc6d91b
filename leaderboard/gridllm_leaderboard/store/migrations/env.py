"""Alembic's entry: runs the migrations on the connection, and in the transaction, that ``migrate`` made."""

from __future__ import annotations

from alembic import context

from gridllm_leaderboard.store.schema import metadata

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"], version_table=attributes["version_table"], target_metadata=metadata
)
with context.begin_transaction():  # the caller's own: committed, or not, as a whole
    context.run_migrations()
