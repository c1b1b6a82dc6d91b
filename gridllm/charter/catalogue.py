"""Which models a grid serves: those of its charter, and submitted ones that the maintainers listed since."""

from __future__ import annotations

from typing import Final

from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import Charter, ModelEntry, SignedCharter
from gridllm.charter.economy import Economy
from gridllm.errors import CharterError

CHAMPION: Final = "@champion"
"""In place of a model's name: whichever leads the leaderboard."""


class Catalogue:
    """Charter and notices together; what it says changes with the board."""

    def __init__(self, signed: SignedCharter, board: NoticeBoard) -> None:
        self._charter: Charter = signed.charter
        self._board = board

    @property
    def entries(self) -> list[ModelEntry]:
        """The charter's models, then the listed ones, oldest listing first."""
        own = {entry.root for entry in self._charter.models}
        listed = sorted(self._board.listings, key=lambda one: (one.issued, one.model.root))
        return [*self._charter.models, *(one.model for one in listed if one.model.root not in own)]

    @property
    def champion(self) -> ModelEntry | None:
        """The leaderboard's champion; None before there is one, or while its listing is not known here."""
        crown = self._board.crown
        return None if crown is None else self.entry(crown.root)

    @property
    def former(self) -> ModelEntry | None:
        """The champion before; None: there was none, or it may not be served any more."""
        crown = self._board.crown
        return None if crown is None or crown.former is None else self.entry(crown.former)

    @property
    def lasting(self) -> set[str]:
        """Roots of the models that whoever follows the champion may have to serve at any time: the charter's, the
        champion, and the one before."""
        leading = [one.root for one in (self.champion, self.former) if one is not None]
        return {*(entry.root for entry in self._charter.models), *leading}

    @property
    def names(self) -> dict[str, str]:
        """What models are called, by root: also of those that were withdrawn."""
        listed = {one.model.root: one.model.name for one in self._board.every_listing}
        return listed | {entry.root: entry.name for entry in self._charter.models}

    def entry(self, root: str) -> ModelEntry | None:
        """The model of that root; None: the grid serves no such model, or does so no more."""
        return next((one for one in self.entries if one.root == root), None)

    def model(self, name: str | None = None) -> ModelEntry:
        """The entry called ``name`` (or of that root, or ``@champion``); without a name, the charter's first.

        Raises:
            CharterError: the grid serves no such model, or has no champion.
        """
        if name == CHAMPION:
            champion = self.champion
            if champion is None:
                raise CharterError(
                    f"The grid {self._charter.name!r} has no champion yet; the first comes with the first submission: "
                    "gridllm leaderboard submit"
                )
            return champion
        for entry in self.entries:
            if name is None or name in (entry.name, entry.root):
                return entry
        known = ", ".join(entry.name for entry in self.entries)
        raise CharterError(f"The grid {self._charter.name!r} serves no model {name!r}; it serves: {known}.")

    def contribution(self, root: str) -> int:
        """Micro-credits that an account must have given to use the model of that root; 0: none."""
        economy: Economy = self._charter.economy
        listed = next((one.contribution for one in self._board.every_listing if one.model.root == root), 0)
        return max(economy.tier(root), listed)
