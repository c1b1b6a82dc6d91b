"""Where a keeper's ledger lies: a SQLite file, or a PostgreSQL database named by a URL; open it with ``engine``."""
