"""Weights on the leaderboard's disk, by digest: each tensor once, however many models have it."""
