"""The model author: submit models, have them graded by others, see them ranked; and the leaderboard that does it."""
