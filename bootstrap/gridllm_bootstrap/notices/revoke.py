"""Taking a peer's admission away."""

from __future__ import annotations

import time
from typing import Final

from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import SignedCharter
from gridllm.charter.notices import REVOCATION_TYPE, Revocation
from gridllm.errors import IdentityError, UsageError
from gridllm.identity.keys import Identity, public_key_of
from gridllm.identity.statement import sign_statement
from gridllm.ids import PeerId

MAX_WHY_CHARS: Final = 300
LONGEST_S: Final = 10 * 365 * 86400


def check_wish(peer: str, why: str, for_s: int) -> PeerId:
    """What was typed, once it can stand in a revocation.

    Raises:
        UsageError: no peer id, no reason, or too long a time.
    """
    try:
        public_key_of(peer)
    except IdentityError as error:
        raise UsageError(f"{error} gridllm status --all shows peer ids.") from error
    if not why.strip() or len(why.strip()) > MAX_WHY_CHARS:
        raise UsageError(f"Say in up to {MAX_WHY_CHARS} characters why, with --why: everyone in the grid can read it.")
    if for_s > LONGEST_S:
        raise UsageError("A revocation holds for ten years at most.")
    return PeerId(peer)


def revocation(
    signed: SignedCharter, board: NoticeBoard, peer: PeerId, why: str, for_s: int, maintainer: Identity
) -> bytes:
    """The revocation with one maintainer's signature; it outranks an earlier one of the same peer."""
    earlier = board.revocation(peer)
    issued = max(int(time.time()), 0 if earlier is None else earlier.issued + 1)
    notice = Revocation(grid=signed.grid, peer=peer, why=why.strip(), issued=issued, until=issued + for_s)
    return sign_statement(notice, REVOCATION_TYPE, [maintainer])
