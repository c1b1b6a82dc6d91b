"""Decisions as pure functions: records in, a span, a chain or a verdict out. No clock, no network, no model."""
