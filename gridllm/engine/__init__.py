"""Ragged batching: every ready step of every session goes through the span in one forward pass."""
