"""The ledger's statements: signed documents (DSSE) whose set determines every balance.

=============  ===========================  =======================================================================
statement      signed by                    says
=============  ===========================  =======================================================================
Grant          the charter's threshold      an account gets credit, for a public reason: the only way credit is made
(certificate)  the charter's threshold      the account may be paid for serving; it gets the charter's starter, once
Escrow         the payer's home keeper      so much of the payer's balance is set aside for one node in one session
Voucher        the payer                    "in this session I owe you so much, in total": the highest one counts
Release        the payee                    no more vouchers will be handed in: the rest of the escrow is free again
Transfer       the payer and its keeper     credit passes to another account
=============  ===========================  =======================================================================

A voucher moves credit only up to its escrow, and only the payer's home keeper (``economy.home_of``) signs escrows and
transfers: so nobody spends a balance twice, and no balance falls below zero. Delegation and Pass are shown to nodes
and never enter the books.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Final, NamedTuple, Self

from pydantic import Field, model_validator

from gridllm.charter.economy import MAX_MICRO, Micro
from gridllm.errors import IdentityError, UsageError
from gridllm.identity.fields import HexDigest, HexKey, Peer, Strict, UnixSeconds
from gridllm.identity.keys import peer_of, public_key_of
from gridllm.ids import PeerId

GRANT_TYPE: Final = "application/vnd.gridllm.grant+json"
ESCROW_TYPE: Final = "application/vnd.gridllm.escrow+json"
VOUCHER_TYPE: Final = "application/vnd.gridllm.voucher+json"
RELEASE_TYPE: Final = "application/vnd.gridllm.release+json"
TRANSFER_TYPE: Final = "application/vnd.gridllm.transfer+json"
DELEGATION_TYPE: Final = "application/vnd.gridllm.delegation+json"
PASS_TYPE: Final = "application/vnd.gridllm.pass+json"  # noqa: S105  # no password

MAX_LEDGER_STATEMENT_BYTES: Final = 8 * 1024  # a certificate is the largest kind
MAX_TOKENS: Final = 2**40  # of one session

HexId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""16 random bytes in lower-case hex."""

Block = Annotated[int, Field(ge=0, le=4096)]
Tokens = Annotated[int, Field(ge=0, lt=MAX_TOKENS)]
Positive = Annotated[int, Field(ge=1, lt=MAX_MICRO)]


class TabKey(NamedTuple):
    """What tells one node's bill in one session from all others."""

    session: str
    payer: str
    payee: str
    model: str
    start: int
    end: int

    @property
    def digest(self) -> bytes:
        """SHA-256 of the key: its short name in a database."""
        return hashlib.sha256("|".join(map(str, self)).encode("ascii")).digest()


class OnTab(Strict):
    """A statement about one tab."""

    grid: HexDigest
    session: HexId  # wire.messages.Open.session in hex
    payer: HexKey
    payee: HexKey  # the node's key: its account
    model: HexDigest  # root
    start: Block  # first block
    end: Block  # one past the last
    issued: UnixSeconds

    @model_validator(mode="after")
    def _between_two(self) -> Self:
        if self.payer == self.payee:
            raise ValueError("payer and payee are one account")
        if self.start >= self.end:
            raise ValueError("the span is empty")
        return self

    @property
    def tab(self) -> TabKey:
        """Which tab."""
        return TabKey(self.session, self.payer, self.payee, self.model, self.start, self.end)


class Voucher(OnTab):
    """The payer owes the payee ``micro`` for all that it took through the span in this session so far."""

    prefill: Tokens  # tokens of prompts and replays
    decode: Tokens  # tokens one at a time
    micro: Micro  # exactly prices.price() of the two counts


class Escrow(OnTab):
    """The payer's home keeper set ``micro`` aside for the payee; a later one of the same tab raises it."""

    micro: Micro  # in total
    gift: bool  # a newcomer's allowance: bounds what is served, and is not paid
    expires: UnixSeconds  # what no voucher claimed by then is free again
    keeper: HexKey


class Release(OnTab):
    """The payee hands in no more vouchers of this tab."""


class Grant(Strict):
    """New credit."""

    grid: HexDigest
    account: HexKey
    micro: Positive
    reason: Annotated[str, Field(min_length=1, max_length=200)]  # public
    serial: HexId  # tells two grants of the same kind apart
    issued: UnixSeconds


class Transfer(Strict):
    """Credit from one account to another; counts as a contribution of neither."""

    grid: HexDigest
    payer: HexKey
    payee: HexKey
    micro: Positive
    memo: Annotated[str, Field(max_length=140)]  # public
    serial: HexId
    issued: UnixSeconds

    @model_validator(mode="after")
    def _between_two(self) -> Self:
        if self.payer == self.payee:
            raise ValueError("payer and payee are one account")
        return self


class Delegation(Strict):
    """The connection of peer ``client`` acts for ``account``, which signs this (decision 0002)."""

    grid: HexDigest
    account: HexKey
    client: Peer
    issued: UnixSeconds
    expires: UnixSeconds


class Pass(Strict):
    """What the account may use, as its home keeper's books stand. Signed by that keeper; bound by a Delegation."""

    grid: HexDigest
    account: HexKey
    contribution: Annotated[int, Field(gt=-MAX_MICRO, lt=MAX_MICRO)]  # micro-credits (ledger.fold)
    available: Micro  # balance minus escrow when it was issued: says something about good standing, promises nothing
    keeper: HexKey
    issued: UnixSeconds
    expires: UnixSeconds


def account_of(peer: PeerId) -> str:
    """The ledger account (hex key) of a node.

    Raises:
        IdentityError: not the peer id of an Ed25519 key.
    """
    return public_key_of(peer).hex()


def account_named(text: str) -> str:
    """A peer id, or an account's key in hex, as somebody typed it → the account.

    Raises:
        UsageError: neither.
    """
    if re.fullmatch(r"[0-9a-f]{64}", text.lower()):
        return text.lower()
    try:
        return account_of(PeerId(text))
    except IdentityError as error:
        raise UsageError(
            f"{text!r} is no account; give a peer id (12D3Koo…) or a public key of 64 hex digits, as gridllm id shows."
        ) from error


def peer_of_account(account: str) -> PeerId:
    """The peer id of an account (hex key)."""
    return peer_of(bytes.fromhex(account))
