"""A leaderboard in one file: saved while it runs, verified when it is restored."""
