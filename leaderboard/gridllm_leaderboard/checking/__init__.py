"""What a model must be before anyone grades it: the same checks for its author and for the leaderboard."""
