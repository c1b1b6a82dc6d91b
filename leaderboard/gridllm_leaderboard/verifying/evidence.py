"""What checks are made from."""

from __future__ import annotations

from typing import Protocol

from gridllm.charter.contest import TaskRule
from gridllm_leaderboard.messages import AnnulledRound, Dossier, RankRow, Reign
from gridllm_leaderboard.tasks.task import Task


class Evidence(Protocol):
    """Where papers come from: the leaderboard, or a test."""

    async def dossier(self, submission: str, round_: int) -> Dossier:
        """Documents about a submission in that round; 0: its last."""
        ...

    async def lines(self, root: str) -> bytes:
        """A list of items or results."""
        ...

    async def task(self, rule: TaskRule) -> Task | None:
        """A task, as far as it is to be had."""
        ...

    async def row(self, submission: str) -> RankRow | None:
        """Its row of the ranking; None: it has none."""
        ...

    async def annulled(self) -> list[AnnulledRound]:
        """All rounds that are void."""
        ...

    async def reigns(self) -> list[Reign]:
        """All champions that there were."""
        ...

    @property
    def account(self) -> str:
        """The leaderboard's, by the rules that hold now."""
        ...
