"""What the leaderboard keeps: submissions, rounds, grades, marks, reigns; in SQLite or PostgreSQL. See ``store``."""
