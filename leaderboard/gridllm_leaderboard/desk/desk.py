"""What all parts of the desk share: keys, books, weights, the ledger's keepers, the tasks, and a bell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gridllm.charter.contest import RULES_TYPE, Rules, TaskRule
from gridllm.charter.notices import verify_notice
from gridllm.errors import LeaderboardError, NoticeError, StatementError
from gridllm.identity.statement import type_of
from gridllm_leaderboard.statements import id_of

if TYPE_CHECKING:
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.document import SignedCharter
    from gridllm.identity.keys import Identity
    from gridllm.ledger.keepers import Keepers
    from gridllm_leaderboard.desk.books import Books
    from gridllm_leaderboard.store.batch import Batch
    from gridllm_leaderboard.store.view import View
    from gridllm_leaderboard.tasks import Task
    from gridllm_leaderboard.vault.vault import Vault

Tell = Callable[[str, Mapping[str, Any]], None]
"""Hears what happened (a word) and the facts."""

RULES_KEY: Final = "rules:"  # in the store's settings, with the rules' id: the notice as it was signed


@dataclass
class Desk:
    """One leaderboard's, while it runs."""

    signed: SignedCharter
    board: NoticeBoard
    identity: Identity  # its account is the one that the rules name
    books: Books
    vault: Vault
    keepers: Keepers
    tasks: Mapping[str, Task]  # by name, those of the rules
    reload: Callable[[Rules], Mapping[str, Task]] | None = None
    """Finds the tasks of other rules, which were issued since the start. Blocks; raises LeaderboardError."""
    tell: Tell = lambda _kind, _facts: None
    clock: Callable[[], float] = time.time
    ranked: int = 0
    """Changes of the ranking since the start."""
    held_up: str = ""
    """Why no round can begin now, for authors; empty: one can."""
    bells: list[asyncio.Event] = field(default_factory=list)

    @property
    def account(self) -> str:
        """The leaderboard's, hex key."""
        return self.identity.public_key.hex()

    @property
    def now(self) -> int:
        """Unix time, seconds."""
        return int(self.clock())

    @property
    def rules(self) -> Rules:
        """The rules that hold now. Raises LeaderboardError: there are none, or they name another leaderboard."""
        rules = self.board.rules
        if rules is None or rules.account != self.account:
            found = "there are none" if rules is None else f"they name the account {rules.account[:16]}…"
            raise LeaderboardError(
                f"The rules of {self.signed.charter.name!r} do not name this leaderboard ({self.account[:16]}…): "
                f"{found}. Issue rules with: gridllm leaderboard init"
            )
        return rules

    async def tasks_of(self, rules: Rules) -> Mapping[str, Task]:
        """The tasks of a round under these rules. Raises LeaderboardError: one is not here as the rules have it."""
        if self.reload is not None and any(self._lacks(rule) for rule in rules.tasks):
            self.tasks = {**self.tasks, **await asyncio.to_thread(self.reload, rules)}
        for rule in rules.tasks:
            if self._lacks(rule):
                raise LeaderboardError(
                    f"The task {rule.name!r} is not here as the rules commit to it; put its files back, or issue rules "
                    "with it: gridllm leaderboard init --task"
                )
        return {rule.name: self.tasks[rule.name] for rule in rules.tasks}

    def _lacks(self, rule: TaskRule) -> bool:
        task = self.tasks.get(rule.name)
        return task is None or task.commitment != rule.commitment

    def bell(self) -> asyncio.Event:
        """An event that is set whenever something happened that may let work go on."""
        made = asyncio.Event()
        self.bells.append(made)
        return made

    def ring(self) -> None:
        """Something happened."""
        for one in self.bells:
            one.set()

    def reranked(self) -> None:
        """What the ranking shows has changed."""
        self.ranked += 1
        self.ring()

    def keep_rules(self, batch: Batch, rules: Rules) -> str:
        """Keep the notice of the rules that a round is locked under; their id.

        Raises:
            LeaderboardError: the board holds other rules by now.
        """
        id_ = id_of(rules)
        if batch.value(RULES_KEY + id_) is None:
            batch.keep(RULES_KEY + id_, self._rules_raw(id_).decode("ascii"))
        return id_

    def rules_raw(self, view: View, id_: str) -> bytes:
        """The notice of that id. Raises LeaderboardError: it was never kept."""
        kept = view.value(RULES_KEY + id_)
        if kept is None:
            raise LeaderboardError(f"The rules {id_[:16]}… are not in the leaderboard's store; restore a backup.")
        return kept.encode("ascii")

    def rules_of(self, view: View, id_: str) -> Rules:
        """The rules that a round was locked under. Raises LeaderboardError."""
        current = self.board.rules
        if current is not None and id_of(current) == id_:
            return current
        try:
            rules = verify_notice(self.rules_raw(view, id_), self.signed)
        except NoticeError as error:
            raise LeaderboardError(f"The rules {id_[:16]}… in the leaderboard's store are damaged: {error}") from error
        if not isinstance(rules, Rules):
            raise LeaderboardError(f"What the store keeps as the rules {id_[:16]}… are none.")
        return rules

    def _rules_raw(self, id_: str) -> bytes:
        for raw in self.board.raws():
            try:
                if type_of(raw) == RULES_TYPE and id_of(verify_notice(raw, self.signed)) == id_:
                    return raw
            except (StatementError, NoticeError):
                continue
        raise LeaderboardError(f"The rules {id_[:16]}… are not on the board any more.")
