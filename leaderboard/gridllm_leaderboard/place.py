"""Where a leaderboard lies on its maintainer's machine: beside the grid's books, in the maintainer's folder.

::

    <grid's folder>/leaderboard.key       signs rounds and verdicts, takes the fees, and is the peer that answers
    <grid's folder>/leaderboard.sqlite    submissions, rounds, grades, lists; where no other database is named
    <grid's folder>/leaderboard/          the vault: weights by digest
    <grid's folder>/leaderboard-tasks.json   where its tasks come from
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """``folder``: of one grid, as ``gridllm_bootstrap.home.Home.folder`` names it."""

    folder: Path

    @property
    def key(self) -> Path:
        """The leaderboard's identity."""
        return self.folder / "leaderboard.key"

    @property
    def database(self) -> Path:
        """Its SQLite file, where no other database is named."""
        return self.folder / "leaderboard.sqlite"

    @property
    def database_url(self) -> str:
        """The URL of ``database``."""
        return f"sqlite:///{self.database.absolute()}"

    @property
    def tasks(self) -> Path:
        """Which folder each task of the rules comes from: its sealed pool lies there."""
        return self.folder / "leaderboard-tasks.json"

    @property
    def vault(self) -> Path:
        """Weights of all submissions (vault/vault.py)."""
        return self.folder / "leaderboard"
