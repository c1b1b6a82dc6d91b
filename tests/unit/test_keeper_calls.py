"""What a keeper answers over a network, to honest peers and to others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridllm.errors import (
    BadPayment,
    GridError,
    Insufficient,
    LedgerError,
    Malformed,
    NodeFault,
    NotHeld,
    NotHome,
    TooSoon,
)
from gridllm.identity.keys import Identity
from gridllm.ledger import messages
from gridllm.ledger.log.heads import Head, verify_head
from gridllm.ledger.log.proof import verify_consistency, verify_inclusion
from gridllm.ledger.messages import Submit, pack, unpack
from gridllm.ledger.paper import verify_pass
from gridllm.ledger.store.store import LedgerStore
from gridllm.merkle import leaf_digest
from gridllm.swarm.interface import MAX_CALL_BYTES
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm_bootstrap.keeping.calls import Calls
from gridllm_bootstrap.keeping.desk import Keeper
from gridllm_bootstrap.keeping.patience import Patience
from tests.ledgers import NOW, STARTER, Scribe, hex_of, homed, paid_grid
from tests.unit.keeper_desk import IDENTITY, delegation, desk, wish

CALLS = [value for name, value in vars(messages).items() if name.endswith("_CALL")]
ME = hex_of(IDENTITY)
CREDIT = 10**9
NODE = Identity.ephemeral()


class Line:
    """A client of one keeper, on a network in memory."""

    def __init__(self, keeper: Keeper, scribe: Scribe, here: MemorySwarm, client: Identity, there: MemorySwarm) -> None:
        self.keeper, self.scribe, self.swarm, self.client = keeper, scribe, here, client
        self.payer = homed(scribe.signed, ME)
        self._there = there.peer

    async def ask(self, call: str, message: messages.Message | bytes, kind: type[Any] = messages.Documents) -> Any:
        payload = message if isinstance(message, bytes) else pack(message)
        return unpack(await self.swarm.call(self._there, call, payload, timeout_s=60), kind)

    async def submit(self, *raws: bytes) -> list[str]:
        said = await self.ask(messages.SUBMIT_CALL, Submit(list(raws)), messages.Outcomes)
        return [one.code for one in said.outcomes]

    def delegation(self, **changes: Any) -> bytes:
        return delegation(self.scribe, self.payer, **{"client": self.client} | changes)


@asynccontextmanager
async def line(path: Path, *, units: float = 10**6, **economy: Any) -> AsyncIterator[Line]:
    network, scribe, client = MemoryNetwork(), Scribe(paid_grid(**economy)), Identity.ephemeral()
    there, here = network.join(Identity.ephemeral()), network.join(client)
    async with desk(path / "ledger.sqlite", scribe) as keeper:
        await Calls(keeper, there, patience=Patience(there.seen_at, units=units, clock=lambda: 0.0)).serve()
        made = Line(keeper, scribe, here, client, there)
        codes = await made.submit(scribe.enrolment(NODE).raw, scribe.grant(made.payer, CREDIT).raw)
        assert codes == ["accepted"] * 2
        yield made
    await there.close()
    await here.close()


async def test_a_session_from_pass_to_release(tmp_path: Path) -> None:
    async with line(tmp_path) as one:
        (shown,) = (await one.ask(messages.PASS_CALL, messages.AskPass(one.delegation()))).documents
        assert verify_pass(shown, one.scribe.signed).available == CREDIT
        asked = messages.AskEscrow(one.delegation(), [wish(NODE, 10**7)])
        (escrow,) = (await one.ask(messages.ESCROW_CALL, asked)).documents
        assert one.scribe.rules.read(escrow, ME)
        assert await one.submit(one.scribe.voucher(one.payer, NODE, decode=9).raw) == ["accepted"]
        view = await one.ask(messages.ACCOUNT_CALL, messages.AskAccount(hex_of(one.payer)), messages.AccountView)
        price = one.scribe.price(0, 9)
        assert (view.granted, view.spent, view.escrowed) == (CREDIT, price, 10**7 - price)
        assert await one.submit(one.scribe.release(one.payer, NODE).raw) == ["accepted"]
        view = await one.ask(messages.ACCOUNT_CALL, messages.AskAccount(hex_of(NODE)), messages.AccountView)
        assert (view.earned, view.granted, view.escrowed) == (price, STARTER, 0)


async def test_only_who_the_account_lets_act_for_it_may_ask(tmp_path: Path) -> None:
    async with line(tmp_path) as one:
        stranger = Identity.ephemeral()
        false = [
            one.delegation(client=stranger),
            one.delegation(expires=NOW - 1000),
            one.delegation(grid="ab" * 32),
            one.delegation().replace(b'"sig":"', b'"sig":"AAAA', 1),
            one.delegation(signer=stranger),
            b"",
        ]
        for raw in false:
            with pytest.raises(BadPayment):
                await one.ask(messages.PASS_CALL, messages.AskPass(raw))
            with pytest.raises(BadPayment):
                await one.ask(messages.ESCROW_CALL, messages.AskEscrow(raw, [wish(NODE, 5)]))


async def test_refusals_of_escrow_and_pass_keep_their_names(tmp_path: Path) -> None:
    async with line(tmp_path) as one:
        with pytest.raises(Insufficient, match="gridllm serve"):
            await one.ask(messages.ESCROW_CALL, messages.AskEscrow(one.delegation(), [wish(NODE, 2 * CREDIT)]))
        with pytest.raises(BadPayment, match="no model"):
            unknown = msgspec.structs.replace(wish(NODE, 5), model="00" * 32)
            await one.ask(messages.ESCROW_CALL, messages.AskEscrow(one.delegation(), [unknown]))
        one.payer = homed(one.scribe.signed, next(key for key in one.scribe.signed.charter.keepers if key != ME))
        with pytest.raises(NotHome):
            await one.ask(messages.PASS_CALL, messages.AskPass(one.delegation()))
        with pytest.raises(NotHome):
            await one.ask(messages.ESCROW_CALL, messages.AskEscrow(one.delegation(), [wish(NODE, 5)]))


async def test_accounts_and_history_page_by_page(tmp_path: Path) -> None:
    async with line(tmp_path) as one:
        await one.ask(messages.ESCROW_CALL, messages.AskEscrow(one.delegation(), [wish(NODE, 777)]))
        after, found = "", []
        while page := (
            await one.ask(messages.ACCOUNTS_CALL, messages.AskAccounts(after, 1), messages.AccountViews)
        ).accounts:
            found += page
            after = page[-1].account
        assert [view.account for view in found] == sorted([hex_of(NODE), hex_of(one.payer)])
        assert {view.account: view.escrowed for view in found} == {hex_of(NODE): 0, hex_of(one.payer): 777}
        before, indices = None, []
        while rows := (
            await one.ask(messages.HISTORY_CALL, messages.AskHistory(hex_of(one.payer), 0, before, 1), messages.History)
        ).rows:
            indices += [row.index for row in rows]
            before = rows[-1].cursor
        assert indices == [2, 1]


async def test_a_newcomer_sees_what_is_left_of_its_allowance(tmp_path: Path) -> None:
    async with line(tmp_path, newcomers="allowance", allowance=1000) as one:
        one.payer = homed(one.scribe.signed, ME)
        await one.ask(messages.ESCROW_CALL, messages.AskEscrow(one.delegation(), [wish(NODE, 300)]))
        view = await one.ask(messages.ACCOUNT_CALL, messages.AskAccount(hex_of(one.payer)), messages.AccountView)
        assert (view.allowance, view.escrowed) == (700, 0)


async def test_entries_heads_and_proofs_fit_together(tmp_path: Path) -> None:
    async with line(tmp_path) as one:
        while True:
            said = await one.ask(messages.HEADS_CALL, b"", messages.Heads)
            if said.heads and verify_head(said.heads[0], one.scribe.signed).size == 2:
                break
        head = verify_head(said.heads[0], one.scribe.signed)
        entries = (await one.ask(messages.ENTRIES_CALL, messages.AskEntries(ME, 0))).documents
        asked = messages.AskProof(ME, 2, index=1)
        proof = (await one.ask(messages.PROOF_CALL, asked, messages.Proof)).hashes
        verify_inclusion(bytes.fromhex(head.root), 2, 1, leaf_digest(entries[1]), proof)
        asked = messages.AskProof(ME, 2, first=1)
        proof = (await one.ask(messages.PROOF_CALL, asked, messages.Proof)).hashes
        verify_consistency(1, 2, leaf_digest(entries[0]), bytes.fromhex(head.root), proof)
        unknown = "ab" * 32
        for asked in (
            messages.AskProof(ME, 9, index=1),
            messages.AskProof(unknown, 2, first=1),
            messages.AskProof(unknown, 0, first=0),
        ):
            with pytest.raises(NotHeld):
                await one.ask(messages.PROOF_CALL, asked, messages.Proof)
        for asked in (messages.AskProof(ME, 2), messages.AskProof(ME, 2, index=0, first=1)):
            with pytest.raises(Malformed):
                await one.ask(messages.PROOF_CALL, asked, messages.Proof)
        assert (await one.ask(messages.ENTRIES_CALL, messages.AskEntries("ab" * 32, 0))).documents == []
        assert (await one.ask(messages.ENTRIES_CALL, messages.AskEntries(ME, 2**52))).documents == []


async def test_a_page_is_never_more_than_a_call_carries(tmp_path: Path) -> None:
    async with line(tmp_path) as one:
        raws = [one.scribe.grant(one.payer, 1, reason="€" * 200).raw for _ in range(900)]
        for start in range(0, len(raws), 300):
            await one.submit(*raws[start : start + 300])
        answer = await one.ask(messages.ENTRIES_CALL, messages.AskEntries(ME, 0))
        assert 300 < len(answer.documents) < 902
        assert MAX_CALL_BYTES * 0.8 < len(pack(answer)) < MAX_CALL_BYTES
        asked = messages.AskHistory(hex_of(one.payer), limit=1024)
        history = await one.ask(messages.HISTORY_CALL, asked, messages.History)
        assert 300 < len(history.rows) < 902
        assert len(pack(history)) < MAX_CALL_BYTES


async def test_who_asks_too_much_is_told_when_to_come_again(tmp_path: Path) -> None:
    async with line(tmp_path, units=100) as one:
        with pytest.raises(TooSoon, match="second"):
            await one.submit(*[b"x"] * 99)
        with pytest.raises(TooSoon):
            for _ in range(40):
                await one.ask(messages.HEADS_CALL, b"", messages.Heads)


@pytest.mark.parametrize("call", CALLS)
async def test_garbage_is_refused_by_name_and_the_keeper_goes_on(tmp_path: Path, call: str) -> None:
    async with line(tmp_path) as one:
        junk = [b"\xff", b"\xc1", b"\x90", b"null", b"\xdf\xff\xff\xff\xff", b"\x81\xa1x\x01", b"\x00" * 1000]
        junk += [b"\x91" * 5000, pack(Submit([]))[:-1] + b"\xdd\xff\xff\xff\xff", b"x" * MAX_CALL_BYTES]
        for payload in junk:
            with pytest.raises(Malformed):
                await one.ask(call, payload)
        assert await one.submit(one.scribe.voucher(one.payer, NODE, decode=1).raw) == ["accepted"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(CALLS),
    st.dictionaries(
        st.sampled_from(
            [
                "account",
                "log",
                "limit",
                "first",
                "size",
                "index",
                "delegation",
                "statements",
                "wishes",
                "before",
                "since",
                "after",
            ]
        ),
        st.one_of(
            st.none(),
            st.integers(),
            st.text(),
            st.binary(),
            st.lists(st.binary(max_size=9), max_size=3),
            st.just("g" * 64),
            st.just("ab" * 32),
        ),
    ),
)
async def test_whatever_is_asked_the_answer_has_a_name(
    tmp_path_factory: pytest.TempPathFactory, call: str, fields: dict[str, object]
) -> None:
    try:
        payload = msgspec.msgpack.encode(fields)
    except OverflowError:
        return
    async with line(tmp_path_factory.mktemp("ledger")) as one:
        try:
            await one.swarm.call(one._there, call, payload)
        except GridError as error:
            assert "its own" not in str(error)  # no fault of the keeper's
        assert await one.submit(one.scribe.voucher(one.payer, NODE, decode=1).raw) == ["accepted"]


async def test_trouble_with_the_database_is_the_keepers_and_stays_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def gone(*_: object) -> Iterator[None]:
        raise LedgerError("the ledger's database postgresql://ada@db.example/books cannot be used")
        yield

    async with line(tmp_path) as one:
        voucher = one.scribe.voucher(one.payer, NODE, decode=1).raw
        with monkeypatch.context() as patch:
            patch.setattr(LedgerStore, "write", gone)
            for way in ("reading", "asking"):
                patch.setattr(f"gridllm.ledger.store.store.{way}", gone)
            said = await one.ask(messages.SUBMIT_CALL, Submit([voucher]), messages.Outcomes)
            assert (said.outcomes[0].code, "ada" in said.outcomes[0].text) == ("later", False)
            with pytest.raises(NodeFault, match="its own") as fault:
                await one.ask(messages.ACCOUNT_CALL, messages.AskAccount(hex_of(NODE)), messages.AccountView)
            assert "ada" not in str(fault.value)
            with pytest.raises(NodeFault, match="nothing was written"):
                await one.ask(messages.ESCROW_CALL, messages.AskEscrow(one.delegation(), [wish(NODE, 5)]))
        assert "ada@db.example" in caplog.text  # its maintainer is told
        assert await one.submit(voucher) == ["accepted"]


async def test_a_quiet_log_is_signed_anew_for_whoever_wants_a_later_head(tmp_path: Path) -> None:
    async with line(tmp_path) as made:
        old = await newest(made, 0)
        now_s = old.issued + 1
        made.keeper.clock = made.keeper._writer._clock = lambda: float(now_s)
        assert await newest(made, old.issued - 1) == old  # it is later already
        assert await newest(made, now_s) == old  # nobody signs in the future
        now_s += 60
        async with asyncio.timeout(60):
            while (new := await newest(made, old.issued)) == old:  # noqa: ASYNC110 - another process signs
                await asyncio.sleep(0.05)
        assert (new.size, new.root, new.issued) == (old.size, old.root, now_s)


async def newest(made: Line, after: int) -> Head:
    """The keeper's own head, once it has signed all that it holds."""
    async with asyncio.timeout(60):
        while True:
            said = await made.ask(messages.HEADS_CALL, messages.Heads([], [], after), messages.Heads)
            sizes = await made.keeper.read(lambda store: store.sizes())
            heads = [verify_head(raw, made.scribe.signed) for raw in said.heads]
            if [head.size for head in heads] == [sizes.get(made.keeper.log, 0)]:
                return heads[0]
            await asyncio.sleep(0.02)
