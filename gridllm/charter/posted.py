"""One notice as a board holds it: what it is about, and which of two about the same wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gridllm.charter.contest import Crown, Listing, Rules
from gridllm.charter.notices import Notice, Revocation

# Subjects: revocations go by peer, which holds no colon; listings by root.
AMENDMENT: Final = ""
RULES: Final = "leaderboard:rules"
CROWN: Final = "leaderboard:crown"


@dataclass(frozen=True, slots=True)
class Posted:
    """One notice as it is held."""

    notice: Notice
    digest: bytes  # of what it says, whoever signed: the same notice with other signatures is no news
    raw: bytes  # the envelope, with maintainers' signatures only

    @property
    def subject(self) -> str:
        """What it is about; of all about one subject one is held."""
        match self.notice:
            case Revocation(peer=peer):
                return peer
            case Listing(model=model):
                return _of_model(model.root)
            case Rules():
                return RULES
            case Crown():
                return CROWN
        return AMENDMENT

    @property
    def rank(self) -> tuple[int, int, bytes]:
        """Among notices of one subject the largest wins: the latest, or the one of highest serial."""
        match self.notice:
            case Revocation(issued=issued, until=until):
                return issued, until, self.digest
            case Listing(issued=issued, withdrawn=withdrawn):
                return issued, int(withdrawn), self.digest
        serial = self.notice.serial  # all others count
        return serial, 0, bytes(255 - byte for byte in self.digest)  # two of one serial: smaller digest


def surplus_listings(posted: Mapping[str, Posted], most: int) -> list[Posted]:
    """The oldest beyond so many, by subject given; the champion's stays."""
    crown = posted.get(CROWN)
    champion = _of_model(crown.notice.root) if crown is not None and isinstance(crown.notice, Crown) else None
    held = [one for one in posted.values() if isinstance(one.notice, Listing)]
    old = sorted(held, key=lambda one: one.rank)[: max(0, len(held) - most)]
    return [one for one in old if one.subject != champion]


def _of_model(root: str) -> str:
    return f"model:{root}"
