"""Asking keepers: where they are found, who is silent and for how long, and how much goes in one call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gridllm.admission.cards import find_keepers, publish_card
from gridllm.charter.document import SignedCharter, sign_charter
from gridllm.charter.economy import Economy
from gridllm.errors import Insufficient, KeeperSilent, LedgerError, NodeFault, TooSoon
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.ledger import keepers as keepers_module
from gridllm.ledger import messages
from gridllm.ledger.keeper_lines import FIRST_PAUSE_S, LONGEST_PAUSE_S
from gridllm.ledger.keepers import Keepers, pieces
from gridllm.ledger.messages import AccountView, Documents, Heads, Outcome, Outcomes, Submit, Wish, pack, unpack
from gridllm.ledger.paper import sign
from gridllm.ledger.statements import Pass
from gridllm.swarm.interface import MAX_CALL_BYTES
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from tests.charters import MAINTAINERS, charter

A, B = MAINTAINERS[0], MAINTAINERS[1]
KEYS = [key.public_key.hex() for key in (A, B)]
SIGNED: SignedCharter = sign_charter(charter(economy=Economy(required=True, keepers=tuple(KEYS))), MAINTAINERS)


class FakeKeeper:
    """Answers what the tests ask; counts calls."""

    def __init__(self, swarm: MemorySwarm, maintainer: Identity) -> None:
        self.swarm, self.maintainer, self.key = swarm, maintainer, maintainer.public_key.hex()
        self.taken: list[list[bytes]] = []
        self.asked = 0
        self.fault: Exception | None = None
        self.raw: bytes | None = None  # said in place of any answer

    async def start(self) -> None:
        for name in (messages.SUBMIT_CALL, messages.HEADS_CALL, messages.ACCOUNT_CALL, messages.PASS_CALL):
            await self.swarm.serve_calls(name, getattr(self, name.rpartition(".")[2]))
        await publish_card(self.swarm, SIGNED.grid, self.maintainer, office="keepers")

    def _came(self) -> bytes | None:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return self.raw

    async def submit(self, peer: PeerId, raw: bytes) -> bytes:
        said = self._came()
        self.taken.append(unpack(raw, Submit).statements)
        return said or pack(Outcomes([Outcome("accepted", one.decode()) for one in self.taken[-1]]))

    async def heads(self, peer: PeerId, raw: bytes) -> bytes:
        assert raw == b""
        return self._came() or pack(Heads([]))

    async def account(self, peer: PeerId, raw: bytes) -> bytes:
        said = self._came()
        return said or pack(AccountView(unpack(raw, messages.AskAccount).account, 5, 0, 0, 0, 0))

    async def pass_(self, peer: PeerId, raw: bytes) -> bytes:
        return self._came() or b""

    def __getattr__(self, name: str) -> object:
        if name == "pass":
            return self.pass_
        raise AttributeError(name)


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """Two keepers and someone who asks them."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.clock = Clock()
        self.swarm = self.network.join(Identity.ephemeral())
        self.keepers = Keepers(self.swarm, SIGNED, clock=self.clock)

    async def keeper(self, maintainer: Identity = A) -> FakeKeeper:
        made = FakeKeeper(self.network.join(Identity.ephemeral()), maintainer)
        await made.start()
        return made


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    try:
        yield made
    finally:
        for swarm in list(made.network._swarms.values()):
            await swarm.close()


def account_of_home(home: str) -> str:
    keepers = Keepers(MemoryNetwork().join(Identity.ephemeral()), SIGNED)
    while keepers.home(account := Identity.ephemeral().public_key.hex()) != home:
        pass
    return account


async def test_a_keeper_is_found_by_its_card_and_answers() -> None:
    async with scene() as s:
        a, b = await s.keeper(A), await s.keeper(B)
        account = account_of_home(b.key)
        assert (await s.keepers.account(account)).granted == 5
        assert (a.asked, b.asked) == (0, 1)
        assert (await s.keepers.account(account, keeper=a.key)).account == account
        assert (a.asked, b.asked) == (1, 1)


async def test_cards_of_those_who_are_no_keepers_do_not_count() -> None:
    async with scene() as s:
        only_a = sign_charter(charter(economy=Economy(keepers=(KEYS[0],))), MAINTAINERS)
        for maintainer in (A, B):
            swarm = s.network.join(Identity.ephemeral())
            await publish_card(swarm, only_a.grid, maintainer, office="keepers")
        await publish_card(s.network.join(Identity.ephemeral()), only_a.grid, A)  # an authority: another office
        assert [card.maintainer for card in await find_keepers(s.swarm, only_a)] == [KEYS[0]]


async def test_cards_are_read_once_and_again_when_the_keeper_has_moved() -> None:
    async with scene() as s:
        reads = 0

        async def find(swarm: MemorySwarm, signed: SignedCharter) -> list[object]:
            nonlocal reads
            reads += 1
            return await find_keepers(swarm, signed)

        s.keepers = Keepers(s.swarm, SIGNED, find=find, clock=s.clock)  # type: ignore[arg-type]
        first = await s.keeper(A)
        for _ in range(3):
            await s.keepers.heads(first.key)
        assert reads == 1
        s.network.kill(first.swarm.peer)
        s.network._records.clear()
        second = await s.keeper(A)
        await s.keepers.heads(first.key)
        assert (reads, second.asked) == (2, 1)


async def test_a_silent_keeper_is_named_and_left_alone_for_longer_each_time() -> None:
    async with scene() as s:
        keeper = await s.keeper(A)
        await s.keepers.heads(keeper.key)
        s.network.freeze(keeper.swarm.peer)
        with pytest.raises(KeeperSilent, match=f"{keeper.key[:16]}… does not answer") as caught:
            await s.keepers.ask(keeper.key, messages.HEADS_CALL, None, Heads, timeout_s=0.1)
        assert caught.value.keeper == keeper.key
        s.network.thaw(keeper.swarm.peer)
        asked = keeper.asked
        with pytest.raises(KeeperSilent):  # at once: it is not asked
            await s.keepers.heads(keeper.key)
        assert not await s.keepers.answers(keeper.key)
        assert keeper.asked == asked
        keeper.fault = NodeFault("the disk is full")
        pauses = []
        for _ in range(10):
            s.clock.now += s.keepers.left_alone_s(keeper.key)
            with pytest.raises(KeeperSilent, match="the disk is full"):
                await s.keepers.heads(keeper.key)
            pauses.append(s.keepers.left_alone_s(keeper.key))
        assert FIRST_PAUSE_S < pauses[0] < pauses[3] <= LONGEST_PAUSE_S * 1.25
        assert max(pauses) <= LONGEST_PAUSE_S * 1.25
        keeper.fault = None
        s.clock.now += s.keepers.left_alone_s(keeper.key)
        assert await s.keepers.answers(keeper.key)
        assert s.keepers.left_alone_s(keeper.key) == 0


async def test_calls_that_fail_together_count_as_one_silence() -> None:
    async with scene() as s:
        keeper = await s.keeper(A)
        keeper.fault = NodeFault("out")
        await asyncio.gather(*(s.keepers.heads(keeper.key) for _ in range(20)), return_exceptions=True)
        assert 0 < s.keepers.left_alone_s(keeper.key) <= FIRST_PAUSE_S * 1.25


async def test_a_keeper_without_a_card_is_silent() -> None:
    async with scene() as s:
        with pytest.raises(KeeperSilent, match="no peer of the grid announces it"):
            await s.keepers.heads(KEYS[1])
        with pytest.raises(LedgerError, match="no ledger keeper"):
            await s.keepers.heads("ab" * 32)


async def test_a_refusal_is_an_answer() -> None:
    async with scene() as s:
        keeper = await s.keeper(A)
        keeper.fault = Insufficient("have 1, need 2")
        with pytest.raises(Insufficient, match="have 1, need 2"):
            await s.keepers.heads(keeper.key)
        assert s.keepers.left_alone_s(keeper.key) == 0
        s.clock.now += 60
        assert await s.keepers.answers(keeper.key)


@pytest.mark.parametrize("raw", [b"\xc1", pack(Documents([b"x"])), b"\x93" * 5000])
async def test_words_that_are_not_the_ledgers_are_no_answer(raw: bytes) -> None:
    async with scene() as s:
        keeper = await s.keeper(A)
        keeper.raw = raw
        with pytest.raises(KeeperSilent, match="does not parse"):
            await s.keepers.heads(keeper.key)


async def test_another_accounts_sums_are_no_answer() -> None:
    async with scene() as s:
        keeper = await s.keeper(A)
        keeper.raw = pack(AccountView("00" * 32, 0, 0, 0, 0, 0))
        with pytest.raises(KeeperSilent, match="another account"):
            await s.keepers.account("11" * 32, keeper=keeper.key)


async def test_a_pass_is_checked_before_it_is_used() -> None:
    async with scene() as s:
        keeper = await s.keeper(A)
        account = account_of_home(keeper.key)

        def shown(signer: Identity, holder: str) -> bytes:
            made = Pass(
                grid=SIGNED.grid,
                account=holder,
                contribution=0,
                available=0,
                keeper=keeper.key,
                issued=1,
                expires=2,
            )
            return sign(made, signer)

        keeper.raw = pack(Documents([good := shown(A, account)]))
        assert await s.keepers.access_pass(account, b"") == good
        other = account_of_home(keeper.key)
        for bad in ([shown(B, account)], [shown(A, other)], [], [good, good]):
            keeper.raw = pack(Documents(bad))
            with pytest.raises(KeeperSilent, match="pass cannot be used"):
                await s.keepers.access_pass(account, b"")
            s.clock.now += 60


async def test_statements_are_handed_in_by_as_many_calls_as_it_takes_and_outcomes_keep_their_order() -> None:
    async with scene() as s:
        keeper = await s.keeper(A)
        raws = [b"%d" % number for number in range(2 * messages.MAX_BATCH + 1)]
        said = await s.keepers.submit(keeper.key, raws)
        assert [one.text.encode() for one in said] == raws
        assert [len(piece) for piece in keeper.taken] == [messages.MAX_BATCH, messages.MAX_BATCH, 1]
        assert await s.keepers.submit(keeper.key, []) == []
        keeper.raw = pack(Outcomes([]))
        with pytest.raises(KeeperSilent, match="spoke of 0 statements"):
            await s.keepers.submit(keeper.key, [b"x"])


def test_pieces_fit_a_call_however_long_the_statements_are() -> None:
    raws = [bytes(8192)] * 300
    cut = list(pieces(raws))
    assert sum(map(len, cut)) == 300
    assert all(len(pack(Submit(piece))) < MAX_CALL_BYTES for piece in cut)
    assert len(cut) == 3
    with pytest.raises(LedgerError, match="8193"):
        list(pieces([bytes(8193)]))


async def test_wishes_go_to_the_accounts_home() -> None:
    async with scene() as s:
        keeper = await s.keeper(B)
        asked: list[messages.AskEscrow] = []

        async def escrow(peer: PeerId, raw: bytes) -> bytes:
            asked.append(unpack(raw, messages.AskEscrow))
            return pack(Documents([b"escrow"]))

        await keeper.swarm.serve_calls(messages.ESCROW_CALL, escrow)
        wish = Wish("0" * 32, "a" * 64, "b" * 64, 0, 4, 100)
        assert await s.keepers.escrows(account_of_home(keeper.key), b"delegation", [wish]) == [b"escrow"]
        assert asked == [messages.AskEscrow(b"delegation", [wish])]


async def test_who_reads_much_waits_until_it_may_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepers_module, "WAIT_S", 0.0)
    async with scene() as s:
        keeper = await s.keeper(A)
        refusals = 3

        async def entries(peer: PeerId, raw: bytes) -> bytes:
            nonlocal refusals
            if refusals:
                refusals -= 1
                s.clock.now += 1
                raise TooSoon("others, too")
            return pack(Documents([b"entry"]))

        await keeper.swarm.serve_calls(messages.ENTRIES_CALL, entries)
        assert await s.keepers.entries(keeper.key, keeper.key, 0) == [b"entry"]
        refusals = 1000
        with pytest.raises(TooSoon):
            await s.keepers.entries(keeper.key, keeper.key, 0)
        assert refusals > 800


async def test_sums_and_heads_are_waited_for_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def passes(seconds: float) -> None:
        keeper.fault = None if keeper.asked % 3 == 2 else TooSoon("others, too")

    async with scene() as s:
        keeper = await s.keeper(A)
        monkeypatch.setattr(keepers_module.asyncio, "sleep", passes)
        keeper.fault = TooSoon("others, too")
        assert (await s.keepers.account(account_of_home(keeper.key), keeper=keeper.key)).granted == 5
        asked, keeper.fault = keeper.asked, TooSoon("others, too")
        assert await s.keepers.heads(keeper.key) == Heads([])
        assert (asked, keeper.asked > asked + 1) == (3, True)
