"""What strangers hand in, verified: every signature and rule that needs no books. Runs in a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from gridllm.charter.board import NoticeBoard
from gridllm.errors import GridError, NodeFault, UnknownModel
from gridllm.identity.statement import only_signed_by
from gridllm.ids import PeerId
from gridllm.ledger.messages import Outcome
from gridllm.ledger.paper import Entry, Rulebook
from gridllm.ledger.statements import OnTab, Transfer
from gridllm_bootstrap.keeping.decisions import MAX_TEXT_CHARS, Standing, unusable

log = logging.getLogger(__name__)

USUAL_BYTES: Final = 1024  # of a statement on a tab with the one signature it needs: 810 or so


def read_all(rulebook: Rulebook, raws: Sequence[bytes]) -> list[Entry | Outcome]:
    """Each statement, or why it cannot be used."""
    return [_read(rulebook, raw) for raw in raws]


def standing_of(board: NoticeBoard) -> Standing:
    """Who may be paid now; in the board's own thread."""
    revoked = {PeerId(revocation.peer): revocation for revocation in board.revocations}
    return Standing(board.admission.required, revoked)


def _read(rulebook: Rulebook, raw: bytes) -> Entry | Outcome:
    try:
        entry = rulebook.read(raw)
        return _trimmed(rulebook, entry)
    except UnknownModel as error:  # listed a moment ago, perhaps: nobody loses what it earned by it
        return Outcome("later", f"{error} It can be handed in again."[:MAX_TEXT_CHARS])
    except GridError as error:
        return unusable(error)
    except Exception:  # strangers' bytes: one statement of many
        log.exception("A statement could not be read")
        return Outcome(NodeFault.code, "The keeper failed to read this statement; the fault is its own.")


def _trimmed(rulebook: Rulebook, entry: Entry) -> Entry:
    """Without signatures that nobody asked for: they would stay in the books for ever."""
    said = entry.statement
    if isinstance(said, OnTab) and len(entry.raw) <= USUAL_BYTES:
        return entry  # most are: to spell it anew would take a third of the time that verifying takes
    signed = rulebook.signed.charter.maintainers
    if isinstance(said, OnTab | Transfer):
        signed = [said.payer, said.payee]
    return entry._replace(raw=only_signed_by(entry.raw, signed))
