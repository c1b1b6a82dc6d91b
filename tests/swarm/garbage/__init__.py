"""Garbage to every message and call of a real node, with a well-behaved client beside it."""
