"""Alembic's migrations of the ledger's database; ``gridllm.ledger.store.migrate`` runs them at a keeper's start.

To change a table: change ``gridllm/ledger/store/schema.py``, add ``versions/v<NNNN>_<what>.py`` with the next number as
its ``revision`` and the last as its ``down_revision``, and run ``tests/swarm/test_ledger_migrations.py``: it compares
the two on SQLite and on PostgreSQL. Alter tables inside ``op.batch_alter_table``, since SQLite alters few things in
place. A migration that was released is never changed.
"""
