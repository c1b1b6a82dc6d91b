"""Grids with an economy, and signed statements for their ledgers: one at a time, or a day's traffic in bulk."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from gridllm.admission.certificate import CERTIFICATE_TYPE, Certificate
from gridllm.charter.document import ModelEntry, SignedCharter, sign_charter
from gridllm.charter.economy import Economy, home_of
from gridllm.identity.keys import Identity
from gridllm.identity.statement import sign_statement
from gridllm.ledger.paper import TYPES, Entry, Rulebook, Statement, id_of, sign
from gridllm.ledger.prices import Count
from gridllm.ledger.statements import Escrow, Grant, OnTab, Release, Transfer, Voucher
from tests.certificates import SIGNERS, certificate
from tests.charters import ENTRY, MAINTAINERS, charter

NOW: Final = 1_800_000_000  # Unix time of all statements here, unless a test says otherwise
STARTER: Final = 5_000_000
BLOCKS: Final = [123_457 + 1_001 * block for block in range(ENTRY.blocks)]  # parameters: no price divides evenly
SESSION: Final = "0f" * 16


def paid_grid(**changes: Any) -> SignedCharter:
    """A grid with three keepers where everything is paid; ``changes`` are fields of its ``Economy``."""
    economy = Economy(**{"required": True, "starter": STARTER, "newcomers": "nothing"} | changes)
    return sign_charter(charter(economy=economy), SIGNERS)


def rulebook(signed: SignedCharter) -> Rulebook:
    """The rules of ``paid_grid``; its one model is ``charters.ENTRY`` with ``BLOCKS``."""
    return Rulebook(signed, {ENTRY.root: BLOCKS})


def hex_of(identity: Identity) -> str:
    """The identity's account, or its name as a keeper."""
    return identity.public_key.hex()


def keeper_of(
    signed: SignedCharter, account: Identity, maintainers: Sequence[Identity] = tuple(MAINTAINERS)
) -> Identity:
    """The maintainer that is the account's home keeper."""
    home = home_of(hex_of(account), signed.charter.keepers)
    return next(one for one in maintainers if hex_of(one) == home)


def homed(signed: SignedCharter, keeper: str) -> Identity:
    """A fresh account whose home is ``keeper`` (hex key)."""
    while True:
        one = Identity.ephemeral()
        if home_of(hex_of(one), signed.charter.keepers) == keeper:
            return one


def entry(raw: bytes, statement: Statement) -> Entry:
    """As ``Rulebook.read`` would make it, without checking anything."""
    return Entry(raw, statement, id_of(statement))


@dataclass
class Scribe:
    """Writes sound statements of one grid. Fields given by name replace what it would write."""

    signed: SignedCharter = field(default_factory=paid_grid)
    maintainers: Sequence[Identity] = tuple(MAINTAINERS)
    entry: ModelEntry = ENTRY
    blocks: Sequence[int] = tuple(BLOCKS)

    def __post_init__(self) -> None:
        self.rules = Rulebook(self.signed, {self.entry.root: self.blocks})
        self._signers = self.maintainers[: self.signed.charter.threshold]
        self._random = random.Random(0)

    def voucher(self, payer: Identity, payee: Identity, prefill: int = 0, decode: int = 0, **changes: Any) -> Entry:
        """``payer`` owes for so many tokens in all."""
        fields = self._on_tab(payer, payee, changes) | {"prefill": prefill, "decode": decode}
        due = self.price(prefill, decode, fields["start"], fields["end"])
        said = Voucher(**{"micro": due} | fields | changes)
        return entry(sign(said, payer), said)

    def price(self, prefill: int, decode: int, start: int = 0, end: int | None = None) -> int:
        """Micro-credits for so many tokens."""
        end = self.entry.blocks if end is None else end
        return self.rules.price(self.entry.root, start, end, Count(prefill, decode))

    def escrow(self, payer: Identity, payee: Identity, micro: int, **changes: Any) -> Entry:
        """The payer's home keeper sets ``micro`` aside."""
        keeper = self.keeper(payer)
        fields = self._on_tab(payer, payee, changes)
        terms = {"micro": micro, "gift": False, "expires": NOW + 1800, "keeper": hex_of(keeper)}
        said = Escrow(**fields | terms | changes)
        return entry(sign(said, keeper), said)

    def release(self, payer: Identity, payee: Identity, **changes: Any) -> Entry:
        """The payee is done."""
        said = Release(**self._on_tab(payer, payee, changes) | changes)
        return entry(sign(said, payee), said)

    def grant(self, account: Identity, micro: int, **changes: Any) -> Entry:
        """The maintainers make credit."""
        fields = {"account": hex_of(account), "micro": micro, "reason": "for a test", "serial": self._serial()}
        said = Grant(**{"grid": self.signed.grid, "issued": NOW} | fields | changes)
        return entry(sign(said, *self._signers), said)

    def transfer(self, payer: Identity, payee: Identity, micro: int, **changes: Any) -> Entry:
        """``payer`` sends, its home keeper countersigns."""
        fields = {"payer": hex_of(payer), "payee": hex_of(payee), "micro": micro, "memo": "", "serial": self._serial()}
        said = Transfer(**{"grid": self.signed.grid, "issued": NOW} | fields | changes)
        return entry(sign(said, payer, self.keeper(payer)), said)

    def enrolment(self, node: Identity, **changes: Any) -> Entry:
        """``node`` is admitted to serve."""
        said: Certificate = certificate(self.signed, node.peer, **self._certified() | changes)
        return entry(sign_statement(said, CERTIFICATE_TYPE, self._signers), said)

    def keeper(self, account: Identity) -> Identity:
        """The account's home keeper."""
        return keeper_of(self.signed, account, self.maintainers)

    def _on_tab(self, payer: Identity, payee: Identity, changes: dict[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "grid": self.signed.grid,
            "session": SESSION,
            "payer": hex_of(payer),
            "payee": hex_of(payee),
            "model": self.entry.root,
            "start": 0,
            "end": self.entry.blocks,
            "issued": NOW,
        }
        return fields | {name: value for name, value in changes.items() if name in fields}

    def _certified(self) -> dict[str, Any]:
        measured_by = sorted(hex_of(one) for one in self._signers)
        return {"issued": NOW, "expires": NOW + 86400, "model": self.entry.root, "measured_by": measured_by}

    def _serial(self) -> str:
        return self._random.randbytes(16).hex()


def traffic(
    signed: SignedCharter,
    keeper: str,
    count: int,
    *,
    payers: int = 50,
    nodes: int = 20,
    at_once: int = 50,
    seed: int = 0,
    scribe: Scribe | None = None,
) -> Iterator[Entry]:
    """The first ``count`` statements of ``keeper``'s log (hex key) on a busy grid, each of which changes something.

    Nodes enrol, payers are granted plenty, then ``at_once`` sessions at a time run on chains of one to three nodes: an
    escrow and (after some vouchers) a higher one, about eight vouchers, a release; a transfer now and then.
    One takes 0.1 to 0.2 ms.
    """
    return islice(_traffic(scribe or Scribe(signed), keeper, payers, nodes, at_once, random.Random(seed)), count)


def _traffic(scribe: Scribe, keeper: str, payers: int, nodes: int, at_once: int, rng: random.Random) -> Iterator[Entry]:
    serving = [Identity.ephemeral() for _ in range(nodes)]
    paying = [homed(scribe.signed, keeper) for _ in range(payers)]
    yield from (scribe.enrolment(node) for node in serving)
    yield from (scribe.grant(payer, 10**15) for payer in paying)
    running = [_session(scribe, rng, rng.choice(paying), serving) for _ in range(at_once)]
    while True:
        at = rng.randrange(at_once)
        said = next(running[at], None)
        if said is not None:
            yield said
            continue
        running[at] = _session(scribe, rng, rng.choice(paying), serving)
        if rng.random() < 0.1:
            yield scribe.transfer(*rng.sample(paying, 2), rng.randrange(1, 1000))


def _session(scribe: Scribe, rng: random.Random, payer: Identity, serving: list[Identity]) -> Iterator[Entry]:
    hops = rng.choice([1, 2, 2, 3])
    cuts = [0, *sorted(rng.sample(range(1, scribe.entry.blocks), hops - 1)), scribe.entry.blocks]
    keeper, session = scribe.keeper(payer), rng.randbytes(16).hex()
    prefill, calls = rng.randrange(4, 600), rng.randrange(2, 15)
    for node, start, end in zip(rng.sample(serving, hops), cuts, cuts[1:], strict=False):
        tab = scribe._on_tab(payer, node, {"session": session, "start": start, "end": end})
        terms = {"gift": False, "expires": NOW + 1800, "keeper": hex_of(keeper)}
        due = [scribe.price(prefill, 32 * call, start, end) for call in range(calls)]
        halfway = due[calls // 2]
        yield _quick(Escrow(**tab, micro=halfway, **terms), keeper)
        for call, micro in enumerate(due):
            if micro > halfway and due[call - 1] <= halfway:
                yield _quick(Escrow(**tab, micro=due[-1] + 1, **terms), keeper)
            yield _quick(Voucher(**tab, prefill=prefill, decode=32 * call, micro=micro), payer)
        if rng.random() < 0.9:  # some nodes vanish
            yield _quick(Release(**tab), node)


def _quick(said: OnTab, signer: Identity) -> Entry:
    """``paper.sign`` byte for byte, by one signer and of plain text, in a third of its time."""
    kind = TYPES[type(said)]
    body = json.dumps(said.__dict__, sort_keys=True, separators=(",", ":")).encode()
    signature = signer.sign(b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body))
    raw = b'{"payload":"%s","payloadType":"%s","signatures":[{"keyid":"%s","sig":"%s"}]}' % (
        base64.b64encode(body),
        kind.encode(),
        signer.public_key.hex().encode(),
        base64.b64encode(signature),
    )
    return entry(raw, said)  # type: ignore[arg-type]
