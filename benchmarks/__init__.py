"""Measurements: each writes JSON and sets the local transformers model beside the grid in the same run."""
