"""What crosses between keepers and everyone else: unary calls, msgpack, strict. docs/ledger.md tells who asks what."""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from gridllm.errors import WireError
from gridllm.wire.strict import UNPARSABLE

SUBMIT_CALL: Final = "gridllm.ledger.submit"  # Submit → Outcomes
ESCROW_CALL: Final = "gridllm.ledger.escrow"  # AskEscrow → Documents; Insufficient, NotHome, BadPayment
PASS_CALL: Final = "gridllm.ledger.pass"  # noqa: S105  # AskPass → Documents (one); NotHome, BadPayment
ACCOUNT_CALL: Final = "gridllm.ledger.account"  # AskAccount → AccountView
ACCOUNTS_CALL: Final = "gridllm.ledger.accounts"  # AskAccounts → AccountViews
HISTORY_CALL: Final = "gridllm.ledger.history"  # AskHistory → History
HEADS_CALL: Final = "gridllm.ledger.heads"  # b"", or Heads that others showed → Heads
ENTRIES_CALL: Final = "gridllm.ledger.entries"  # AskEntries → Documents
PROOF_CALL: Final = "gridllm.ledger.proof"  # AskProof → Proof

MAX_BATCH: Final = 768  # statements in one call: below a call's 1 MiB
MAX_PAGE: Final = 1024

Key = Annotated[str, Meta(min_length=64, max_length=64)]  # account, keeper or model root, in hex
Document = Annotated[bytes, Meta(max_length=8192)]  # a signed statement (DSSE)
Evidence = Annotated[bytes, Meta(max_length=20 * 1024)]  # log.evidence.Equivocation.raw
Amount = Annotated[int, Meta(ge=0, lt=2**62)]  # micro-credits
Sum = Annotated[int, Meta(ge=0, le=2**63 - 1)]  # of amounts: all that a database holds
Index = Annotated[int, Meta(ge=0, lt=2**53)]  # of an entry in a log, or a log's size
Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all have in common."""


class Submit(Message, frozen=True):
    """Take these statements into the books."""

    statements: Annotated[list[Document], Meta(max_length=MAX_BATCH)]


class Outcome(Message, frozen=True):
    """What became of one statement. It is on disk once this is said."""

    code: Annotated[
        str, Meta(max_length=32)
    ]  # accepted | known (or less than what is known) | later | a Refusal's code
    text: Annotated[str, Meta(max_length=512)] = ""  # one sentence for people


class Outcomes(Message, frozen=True):
    """In the order of the statements."""

    outcomes: Annotated[list[Outcome], Meta(max_length=MAX_BATCH)]


class Wish(Message, frozen=True):
    """One escrow that is asked for."""

    session: Annotated[str, Meta(min_length=32, max_length=32)]
    payee: Key
    model: Key
    start: Annotated[int, Meta(ge=0, le=4096)]
    end: Annotated[int, Meta(ge=0, le=4096)]
    micro: Amount  # in total


class AskEscrow(Message, frozen=True):
    """Set aside all of these or none."""

    delegation: Document
    wishes: Annotated[list[Wish], Meta(min_length=1, max_length=64)]


class AskPass(Message, frozen=True):
    """What may this account use?"""

    delegation: Document


class Documents(Message, frozen=True):
    """Signed statements."""

    documents: Annotated[list[Document], Meta(max_length=MAX_PAGE)]


class AskAccount(Message, frozen=True):
    """How does this account stand? Anyone may ask: the books are public."""

    account: Key


class AccountView(Message, frozen=True):
    """An account's sums (``ledger.fold.Account``), micro-credits."""

    account: Key
    granted: Sum
    earned: Sum
    spent: Sum
    received: Sum
    sent: Sum
    escrowed: Sum = 0  # now
    allowance: Sum = 0  # left of a newcomer's today


class AskAccounts(Message, frozen=True):
    """All accounts, in the order of their keys."""

    after: Annotated[str, Meta(max_length=64)] = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = MAX_PAGE


class AccountViews(Message, frozen=True):
    """One page; the last when it is shorter than what was asked for."""

    accounts: Annotated[list[AccountView], Meta(max_length=MAX_PAGE)]


class AskHistory(Message, frozen=True):
    """Statements that name the account, newest first."""

    account: Key
    since: Annotated[int, Meta(ge=0, le=10**11)] = 0  # Unix time of acceptance or mirroring
    before: Index | None = None  # ``cursor`` of the last row of the page before
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100


class HistoryRow(Message, frozen=True):
    """One of them."""

    cursor: Index
    log: Key
    index: Index
    at: Annotated[int, Meta(ge=0, le=10**11)]
    statement: Document


class History(Message, frozen=True):
    """One page: as many as fit a call. After the last row comes an empty one."""

    rows: Annotated[list[HistoryRow], Meta(max_length=MAX_PAGE)]


class Heads(Message, frozen=True, omit_defaults=True):
    """The newest signed head of each log held here (ledger.log.heads), and evidence against keepers."""

    heads: Annotated[list[Document], Meta(max_length=64)]
    evidence: Annotated[list[Evidence], Meta(max_length=16)] = []
    after: Annotated[int, Meta(ge=0, le=10**11)] = 0
    """Of a question: wanted is a head signed later than this, Unix time. A quiet keeper signs its log anew, soon."""


class AskEntries(Message, frozen=True):
    """Entries of one keeper's log from ``first`` on: as many as fit a call, at most ``limit``."""

    log: Key
    first: Index
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = MAX_PAGE


class AskProof(Message, frozen=True):
    """That entry ``index``, or the log of size ``first``, is part of the log of ``size``."""

    log: Key
    size: Index
    index: Index | None = None
    first: Index | None = None


class Proof(Message, frozen=True):
    """RFC 9162 inclusion or consistency proof."""

    hashes: Annotated[list[Hash], Meta(max_length=128)]


M = TypeVar("M", bound=Message)


def pack(message: Message) -> bytes:
    """Message → msgpack."""
    return msgspec.msgpack.encode(message)


def unpack(raw: bytes, kind: type[M]) -> M:
    """Msgpack → message, checked.

    Raises:
        WireError: not one of that kind.
    """
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except UNPARSABLE as error:
        raise WireError(f"A ledger message does not parse: {error}.") from error
