"""``gridllm leaderboard``: a file for each command."""
