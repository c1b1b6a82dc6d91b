"""``gridllm bootstrap``: one file for a command or a family of them, and how grids and notices look on a terminal."""

from gridllm_bootstrap.cli.main import app

__all__ = ["app"]
