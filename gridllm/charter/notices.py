"""What the maintainers say after founding, signed by their threshold: revocations, amended minimums, the leaderboard.

The charter itself never changes (its digest is the grid's id), so changes travel beside it. Notices are a grow-only set
with one winner for each subject, so peers may exchange them in any order and any number of times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field

from gridllm.charter.contest import CROWN_TYPE, LISTING_TYPE, RULES_TYPE, Crown, Listing, Rules
from gridllm.charter.document import SignedCharter
from gridllm.charter.minimums import Admission
from gridllm.errors import NoticeError, StatementError
from gridllm.identity.fields import HexDigest, Peer, Strict, UnixSeconds
from gridllm.identity.statement import type_of, verify_statement

REVOCATION_TYPE: Final = "application/vnd.gridllm.revocation+json"
AMENDMENT_TYPE: Final = "application/vnd.gridllm.amendment+json"
MAX_NOTICE_BYTES: Final = 16 * 1024


class Revocation(Strict):
    """``peer``'s certificates issued before ``issued`` are void, and it gets no new one before ``until``."""

    grid: HexDigest
    peer: Peer
    why: Annotated[str, Field(min_length=1, max_length=300)]  # for people; public
    issued: UnixSeconds
    until: UnixSeconds  # not after ``issued``: it may be measured again at once


class Amendment(Strict):
    """From now on these minimums hold; the highest serial wins. The charter's own count as serial 0."""

    grid: HexDigest
    serial: Annotated[int, Field(ge=1, le=2**31)]
    issued: UnixSeconds
    admission: Admission


Notice = Revocation | Amendment | Rules | Listing | Crown

KINDS: Final[Mapping[str, type[Notice]]] = {
    REVOCATION_TYPE: Revocation,
    AMENDMENT_TYPE: Amendment,
    RULES_TYPE: Rules,
    LISTING_TYPE: Listing,
    CROWN_TYPE: Crown,
}
"""Payload type → model."""


def verify_notice(raw: bytes, signed: SignedCharter) -> Notice:
    """The notice in ``raw``, once the charter's threshold of maintainers is known to have signed it for this grid.

    Raises:
        NoticeError: no kind of notice, forged, or of another grid.
    """
    if len(raw) > MAX_NOTICE_BYTES:
        raise NoticeError(f"A notice of {len(raw)} bytes exceeds the limit of {MAX_NOTICE_BYTES}.")
    charter = signed.charter
    keys = [bytes.fromhex(key) for key in charter.maintainers]
    try:
        kind = type_of(raw)
        if kind not in KINDS:
            raise StatementError(f"a statement of type {kind[:64]!r} is none")
        notice: Notice = verify_statement(raw, KINDS[kind], kind, keys, charter.threshold)
    except StatementError as error:
        raise NoticeError(f"This is no notice of the maintainers of {charter.name!r}: {error}") from error
    if notice.grid != signed.grid:
        raise NoticeError(f"A notice of the grid {notice.grid[:16]}… does not apply to {signed.grid[:16]}….")
    return notice
