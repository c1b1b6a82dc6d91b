"""A SQLite file, or a PostgreSQL database named by a URL. What is kept there is the business of others."""
