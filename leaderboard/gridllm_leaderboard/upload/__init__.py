"""How a model's files come to the leaderboard: one stream, driven by the leaderboard, which asks for what it lacks."""
