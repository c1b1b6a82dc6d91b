"""From bytes to ledger entries and back: every signature, and every rule that needs no other statement."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from pydantic import BaseModel

from gridllm.admission.certificate import CERTIFICATE_TYPE, Certificate, verify_signatures
from gridllm.charter.document import SignedCharter
from gridllm.charter.economy import home_of
from gridllm.errors import CertificateError, LedgerError, StatementError, UnknownModel
from gridllm.identity.keys import Identity, public_key_of
from gridllm.identity.statement import read_unverified, sign_statement, type_of, verify_statement
from gridllm.ids import PeerId
from gridllm.ledger.prices import Count, price, span_parameters
from gridllm.ledger.statements import (
    DELEGATION_TYPE,
    ESCROW_TYPE,
    GRANT_TYPE,
    MAX_LEDGER_STATEMENT_BYTES,
    PASS_TYPE,
    RELEASE_TYPE,
    TRANSFER_TYPE,
    VOUCHER_TYPE,
    Delegation,
    Escrow,
    Grant,
    OnTab,
    Pass,
    Release,
    Transfer,
    Voucher,
)

Statement = Grant | Certificate | Escrow | Voucher | Release | Transfer
M = TypeVar("M", bound=BaseModel)

TYPES: Final[Mapping[type[BaseModel], str]] = {
    Grant: GRANT_TYPE,
    Certificate: CERTIFICATE_TYPE,
    Escrow: ESCROW_TYPE,
    Voucher: VOUCHER_TYPE,
    Release: RELEASE_TYPE,
    Transfer: TRANSFER_TYPE,
    Delegation: DELEGATION_TYPE,
    Pass: PASS_TYPE,
}


_ON_TAB: Final[Mapping[str, type[OnTab]]] = {ESCROW_TYPE: Escrow, VOUCHER_TYPE: Voucher, RELEASE_TYPE: Release}


class Entry(NamedTuple):
    """A statement whose signatures were verified."""

    raw: bytes  # the envelope, as it stands in the log
    statement: Statement
    id: bytes  # SHA-256 of what it says: the same with other signatures is the same statement

    @property
    def spender(self) -> str | None:
        """The account whose home keeper alone may log this; None: any keeper may."""
        said = self.statement
        return said.payer if isinstance(said, OnTab | Transfer) else None


def sign(statement: BaseModel, *identities: Identity) -> bytes:
    """The statement as its envelope, signed by each."""
    return sign_statement(statement, TYPES[type(statement)], identities)


class Rulebook:
    """Reads statements of one grid; knows its keys, prices and the sizes of its models' blocks."""

    def __init__(self, signed: SignedCharter, blocks: Mapping[str, Sequence[int]]) -> None:
        """``blocks``: by model root, the parameters of each block (``models.sizes.block_parameters``); may grow."""
        self.signed = signed
        self.blocks = blocks
        self._keepers = signed.charter.keepers
        self._maintainers = [bytes.fromhex(key) for key in signed.charter.maintainers]

    def read(self, raw: bytes, log: str | None = None) -> Entry:
        """The entry in ``raw``.

        Args:
            log: the keeper (hex key) in whose log it stands; None: not in one yet, and a Transfer may still lack the
                keeper's signature.

        Raises:
            LedgerError: malformed, forged, of another grid, wrongly priced, or in the log of a keeper that had no say.
            UnknownModel: of a model whose prices are not known here; that says nothing about the statement.
        """
        if len(raw) > MAX_LEDGER_STATEMENT_BYTES:
            raise LedgerError(f"A statement of {len(raw)} bytes exceeds the ledger's {MAX_LEDGER_STATEMENT_BYTES}.")
        try:
            statement = self._verified(raw, type_of(raw), log)
        except (StatementError, CertificateError) as error:
            raise LedgerError(f"A statement cannot stand in the ledger: {error}") from error
        if statement.grid != self.signed.grid:
            raise LedgerError(f"A statement is of another grid, {statement.grid[:16]}….")
        entry = Entry(raw, statement, id_of(statement))
        if log is not None and entry.spender is not None and self.home(entry.spender) != log:
            raise LedgerError(
                f"Only {self.home(entry.spender)[:16]}… lets the account {entry.spender[:16]}… spend; the statement "
                f"stands in the log of {log[:16]}…."
            )
        return entry

    def home(self, account: str) -> str:
        """The account's home keeper (hex key)."""
        return home_of(account, self._keepers)

    def price(self, model: str, start: int, end: int, count: Count) -> int:
        """Micro-credits for ``count`` tokens through the span.

        Raises:
            UnknownModel: its manifest is not here.
            LedgerError: it has no such blocks.
        """
        return price(self.signed.charter.economy.prices, self.parameters(model, start, end), count)

    def parameters(self, model: str, start: int, end: int) -> int:
        """Parameters in a span. Raises LedgerError as ``price`` does."""
        blocks = self.blocks.get(model)
        if blocks is None:
            raise UnknownModel(model, f"The grid serves no model {model[:16]}…, as far as is known here.")
        if not 0 <= start < end <= len(blocks):
            raise LedgerError(f"The model has {len(blocks)} blocks, and no span {start}:{end}.")
        return span_parameters(blocks, start, end)

    def _verified(self, raw: bytes, kind: str, log: str | None) -> Statement:
        threshold = self.signed.charter.threshold
        if kind == VOUCHER_TYPE:
            voucher = _by_own(raw, Voucher, "payer")
            due = self.price(voucher.model, voucher.start, voucher.end, Count(voucher.prefill, voucher.decode))
            if voucher.micro != due:
                raise LedgerError(f"A voucher says {voucher.micro} micro-credits; its tokens cost {due}.")
            return voucher
        if kind == ESCROW_TYPE:
            escrow = _by_own(raw, Escrow, "keeper")
            self.parameters(escrow.model, escrow.start, escrow.end)
            if escrow.keeper != self.home(escrow.payer):
                raise LedgerError(f"An escrow of {escrow.payer[:16]}… is not by the account's home keeper.")
            return escrow
        if kind == RELEASE_TYPE:
            return _by_own(raw, Release, "payee")
        if kind == TRANSFER_TYPE:
            transfer = _by_own(raw, Transfer, "payer")
            if log is not None:
                verify_statement(raw, Transfer, TRANSFER_TYPE, [bytes.fromhex(self.home(transfer.payer))], 1)
            return transfer
        if kind == GRANT_TYPE:
            return verify_statement(raw, Grant, GRANT_TYPE, self._maintainers, threshold)
        if kind == CERTIFICATE_TYPE:
            certificate = verify_signatures(raw, self.signed)
            if "serve" not in certificate.roles:
                raise LedgerError(f"The certificate of {certificate.peer} is not for serving.")
            public_key_of(certificate.peer)
            return certificate
        raise LedgerError(f"The ledger holds no statements of type {kind[:64]!r}.")


def verify_delegation(raw: bytes, grid: str, client: PeerId, now_s: float, skew_s: float = 300) -> Delegation:
    """The delegation in ``raw``, once its account is known to have signed it for this connection.

    Raises:
        LedgerError: forged, of another grid or connection, or expired.
    """
    delegation = _read_own(raw, Delegation, "account", grid)
    if delegation.client != client:
        raise LedgerError(f"The delegation is for the connection {delegation.client}; {client} cannot use it.")
    _check_time(delegation, now_s, skew_s, "delegation")
    return delegation


def verify_pass(raw: bytes, signed: SignedCharter) -> Pass:
    """The pass in ``raw``, once the account's home keeper is known to have signed it; its time is not checked.

    Raises:
        LedgerError: forged, of another grid, or by another keeper.
    """
    shown = _read_own(raw, Pass, "keeper", signed.grid)
    if shown.keeper != home_of(shown.account, signed.charter.keepers):
        raise LedgerError(f"The pass of {shown.account[:16]}… is not by the account's home keeper.")
    return shown


def id_of(statement: BaseModel) -> bytes:
    """SHA-256 of the statement's type and content, whoever signed it."""
    return hashlib.sha256(f"{TYPES[type(statement)]}\n{statement.model_dump_json()}".encode()).digest()


def model_of(raw: bytes) -> str | None:
    """Root of the model that a statement on a tab names, WITHOUT any check; None: it is no such statement."""
    try:
        kind = type_of(raw)
        said = read_unverified(raw, _ON_TAB[kind], kind)[0] if kind in _ON_TAB else None
    except StatementError:
        return None
    return said.model if said is not None else None


def _read_own(raw: bytes, model: type[M], signer: str, grid: str) -> M:
    if len(raw) > MAX_LEDGER_STATEMENT_BYTES:
        raise LedgerError(f"A statement of {len(raw)} bytes exceeds the ledger's {MAX_LEDGER_STATEMENT_BYTES}.")
    try:
        said = _by_own(raw, model, signer)
    except StatementError as error:
        raise LedgerError(f"A {model.__name__.lower()} cannot be used: {error}") from error
    if getattr(said, "grid", None) != grid:
        raise LedgerError(f"A {model.__name__.lower()} is of another grid.")
    return said


def _by_own(raw: bytes, model: type[M], signer: str) -> M:
    """A statement that names its own signer. Raises StatementError."""
    claimed, _ = read_unverified(raw, model, TYPES[model])
    return verify_statement(raw, model, TYPES[model], [bytes.fromhex(getattr(claimed, signer))], 1)


def _check_time(said: Delegation | Pass, now_s: float, skew_s: float, name: str) -> None:
    if said.issued - now_s > skew_s:
        raise LedgerError(f"The {name} was issued in the future by this machine's clock; set the clock that is wrong.")
    if now_s - said.expires > skew_s:
        raise LedgerError(f"The {name} expired {(now_s - said.expires) / 60:.0f} minutes ago; show a new one.")
