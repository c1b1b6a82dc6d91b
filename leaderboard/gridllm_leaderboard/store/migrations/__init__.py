"""Alembic's migrations of the leaderboard's database; ``store.engine.open_engine`` runs them.

To change a table: change ``store/schema.py``, add ``versions/v<NNNN>_<what>.py`` with the next number as its
``revision`` and the last as its ``down_revision``, and run ``tests/swarm/test_leaderboard_store_postgres.py``: it
compares the two on SQLite and on PostgreSQL. Alter tables inside ``op.batch_alter_table``. A migration that was
released is never changed.
"""
