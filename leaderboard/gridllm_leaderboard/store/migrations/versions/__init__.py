"""One file for each version of the leaderboard's database."""
