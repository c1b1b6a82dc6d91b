"""A submitted model in the ledger: keepers take what is paid for it once they know it, and auditors find it by root."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gridllm.charter.board import NoticeBoard
from gridllm.charter.catalogue import Catalogue
from gridllm.charter.fetch import serve_charter
from gridllm.cli.ledger import export, verify
from gridllm.errors import BadPayment, LedgerError, NotEntitled
from gridllm.identity.keys import Identity
from gridllm.ledger.audit import archive, examine
from gridllm.ledger.messages import Wish
from gridllm.ledger.paper import Rulebook
from gridllm.models.manifest import manifest_bytes, root
from gridllm.models.sizes import block_parameters
from gridllm.node.counter.terms import Ruling, admit
from gridllm.node.counter.till import Till
from tests.charters import ENTRY, MAINTAINERS
from tests.ledgers import BLOCKS, NOW, SESSION, Scribe, hex_of, homed, paid_grid, traffic
from tests.unit.contests import listing, model
from tests.unit.keeper_desk import IDENTITY, desk
from tests.unit.keeper_stations import hurry, stations, until
from tests.unit.ledger_desk import Desk, DeskScribe, make_desk
from tests.unit.node_paying import Clock, Payer, purse_of
from tests.unit.node_paying import Desk as TillDesk
from tests.unit.test_admission_manifests import manifest
from tests.unit.test_ledger_audit import scene
from tests.unit.test_node_till import economy, facts, shown

A, B = MAINTAINERS[:2]
ALONE = paid_grid(keepers=(hex_of(IDENTITY),))
BETTER = model("better")
ITS_BLOCKS = tuple(10 * size for size in BLOCKS)


class TestKeeper:
    async def test_a_voucher_waits_until_the_keeper_knows_the_model(self, tmp_path: Path) -> None:
        scribe, its = Scribe(ALONE), Scribe(ALONE, entry=BETTER, blocks=ITS_BLOCKS)
        payer, node = homed(ALONE, hex_of(IDENTITY)), Identity.ephemeral()
        voucher = its.voucher(payer, node, decode=5)
        scribe.rules.blocks = known = dict(scribe.rules.blocks)
        async with desk(tmp_path / "books.db", scribe) as keeper:
            grant = scribe.grant(payer, 10**12)
            assert [one.code for one in await keeper.submit([grant.raw])] == ["accepted"]
            (outcome,) = await keeper.submit([voucher.raw])
            assert outcome.code == "later", "what a node earned is not lost"
            assert "as far as is known here. It can be handed in again." in outcome.text
            asked = Wish(SESSION, hex_of(node), BETTER.root, 0, BETTER.blocks, its.price(0, 9))
            with pytest.raises(BadPayment, match="serves no model"):
                await keeper.escrows(hex_of(payer), [asked])
            known[BETTER.root] = ITS_BLOCKS
            (outcome,) = await keeper.submit([voucher.raw])
            assert outcome.code == "accepted", outcome.text
            account = await keeper.read(lambda store: store.account(hex_of(node)))
            assert account.earned == its.price(0, 5)
            assert len(await keeper.escrows(hex_of(payer), [asked])) == 1

    async def test_one_that_does_not_know_it_accuses_nobody_and_follows_once_it_does(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hurry(monkeypatch)
        two = paid_grid(keepers=(hex_of(A), hex_of(B)))
        its, scribe = Scribe(two, entry=BETTER, blocks=ITS_BLOCKS), Scribe(two)
        payer = homed(two, hex_of(A))
        async with stations(tmp_path, two, A, B) as grid:
            a, b = grid.stations
            b.keeper.clerk.rulebook = late = Rulebook(two, {ENTRY.root: BLOCKS})
            asked = list[str]()

            async def learn(found: str) -> bool:
                asked.append(found)
                if len(asked) > 2:
                    late.blocks = {**late.blocks, found: ITS_BLOCKS}
                return len(asked) > 2

            b.mirror._learn = learn
            grid.rules.blocks = {**grid.rules.blocks, BETTER.root: ITS_BLOCKS}
            await a.take(scribe.grant(payer, 10**12), its.voucher(payer, Identity.ephemeral(), decode=3))
            size = a.store.sizes()[a.name]
            await until(lambda: b.store.sizes().get(a.name) == size)
            assert asked == [BETTER.root] * 3
            assert b.told == [], "what cannot be judged yet is nobody's fault"


class TestNode:
    def test_a_listed_model_asks_for_a_contribution(self) -> None:
        asks = facts(tier=5_000_000)
        assert admit(economy(), BETTER, shown(5, contribution=5_000_000), asks) == Ruling("escrow", 2)
        with pytest.raises(NotEntitled, match="better is for accounts that gave 5 credits .* 3.75 are lacking.*serve"):
            admit(economy(), BETTER, shown(5, contribution=1_250_000), asks)
        assert admit(economy(), BETTER, shown(5), facts(tier=0)).mode == "escrow"

    async def test_its_till_goes_by_the_catalogue(self, tmp_path: Path) -> None:
        clock, posted = Clock(), NoticeBoard(ALONE)
        its, node = Scribe(ALONE, entry=BETTER, blocks=ITS_BLOCKS), Identity.ephemeral()
        payer, catalogue = Payer(its, node), Catalogue(ALONE, posted)
        async with purse_of(tmp_path, clock) as purse:
            till = Till(
                ALONE,
                BETTER,
                its.rules,
                hex_of(node),
                TillDesk(ALONE),
                purse,
                clock=clock,
                contribution=catalogue.contribution,
                served=lambda root: catalogue.entry(root) is not None,
            )

            async def opens(contribution: int) -> str:
                payment = payer.payment(10**9, contribution)
                try:
                    await till.admit(payer.open(payment, model=BETTER.root), payer.connection.peer)
                except NotEntitled as refusal:
                    return str(refusal)
                return ""

            posted.add(listing(ALONE, BETTER, contribution=5))
            assert await opens(5) == ""
            assert "better is for accounts that gave 0.000005 credits more" in await opens(4)
            posted.add(listing(ALONE, BETTER, NOW + 1, contribution=5, withdrawn=True))
            assert "better was taken down: the grid serves it no more" in await opens(5)


class TestAudit:
    @pytest.mark.parametrize("workers", [0, 2])
    async def test_models_that_the_charter_does_not_name_are_learnt(self, workers: int) -> None:
        asked = list[str]()

        async def learn(found: str) -> Sequence[int]:
            asked.append(found)
            if found != BETTER.root:
                raise LedgerError("nobody knows it")
            return ITS_BLOCKS

        async with scene() as s:
            its = Scribe(s.signed, entry=BETTER, blocks=ITS_BLOCKS)
            s.scribe.rules.blocks = {**s.scribe.rules.blocks, BETTER.root: ITS_BLOCKS}
            s.trade(20)
            for keeper, count in ((s.a, 1100), (s.b, 20)):  # more than a page: some is under way when it is learnt
                keeper.take(traffic(s.signed, keeper.key, count, seed=7, scribe=its))
            s.exchange()
            report = await s.audit(workers=workers, learn=learn)
            assert report.tally is not None
            assert report.tally.accounts == s.a.books.accounts
            assert asked == [BETTER.root]
            with pytest.raises(LedgerError, match="names the model .* whose manifest is not here"):
                await s.audit(workers=0)

    async def test_a_wrong_price_of_such_a_model_is_found(self) -> None:
        async def learn(_: str) -> Sequence[int]:
            return BLOCKS  # its true ones: the keepers take ten times as much

        async with scene() as s:
            its = Scribe(s.signed, entry=BETTER, blocks=ITS_BLOCKS)
            s.scribe.rules.blocks = {**s.scribe.rules.blocks, BETTER.root: ITS_BLOCKS}
            payer = homed(s.signed, s.a.key)
            s.a.take([its.voucher(payer, Identity.ephemeral(), decode=3)])
            s.b.sign()
            s.exchange()
            wrong = await s.wrong(learn=learn)
            assert "its tokens cost" in str(wrong)
            assert wrong.keeper == s.a.key


class TestCommands:
    """As people run them; both keepers hold the manifest, as those must who took entries."""

    @pytest.fixture
    def desk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
        monkeypatch.setattr(examine, "PAUSE_S", 0.0)
        monkeypatch.setattr(archive, "SEGMENT", 64)
        monkeypatch.chdir(tmp_path)
        desk = make_desk(tmp_path, monkeypatch)
        listed = manifest(77)
        self.held = {root(listed): manifest_bytes(listed)}
        self.root = root(listed)
        desk.rules.blocks = {**desk.rules.blocks, self.root: block_parameters(listed)}
        its = DeskScribe(desk.signed)
        its.model, its.rules = self.root, desk.rules
        payer, node = homed(desk.signed, desk.a.key), Identity.ephemeral()
        desk.a.take([desk.scribe.grant(payer, 10**12), its.escrow(payer, node, 10**9), its.voucher(payer, node, 0, 7)])
        desk.exchange()

        for keeper in (desk.a, desk.b):
            start = keeper.start

            async def with_manifests(keeper: Any = keeper, start: Callable[[], Any] = start) -> None:
                await serve_charter(keeper.swarm, desk.signed.raw, self.held)
                await start()

            monkeypatch.setattr(keeper, "start", with_manifests)
        return desk

    def test_a_model_that_is_listed_no_more_is_checked_and_named(
        self, desk: Desk, capsys: pytest.CaptureFixture[str]
    ) -> None:
        verify(as_json=True)
        told = capsys.readouterr()
        assert json.loads(told.out)["sound"] is True
        assert f"Entries name the model {self.root}, which is not listed now" in " ".join(told.err.split())
        entry = model("better", root=self.root)
        NoticeBoard(desk.signed, desk.pins.notices_path(desk.signed)).add(listing(desk.signed, entry, withdrawn=True))
        verify(as_json=True)
        assert "not listed now" not in capsys.readouterr().err

    def test_nobody_has_its_manifest(self, desk: Desk) -> None:
        self.held.clear()
        with pytest.raises(LedgerError, match="nobody sent its manifest: their prices cannot be checked"):
            verify()

    def test_an_export_holds_it(self, desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        export(out=Path("books.zip"))
        with zipfile.ZipFile("books.zip") as made:
            assert f"manifests/{self.root}.json" in made.namelist()
        capsys.readouterr()
        verify(file=Path("books.zip"), as_json=True)
        assert json.loads(capsys.readouterr().out)["sound"] is True

    def test_an_export_without_it_says_so(self, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
        self.held.clear()
        export(out=Path("books.zip"))
        assert f"Nobody sent the manifest of the model {self.root}" in " ".join(capsys.readouterr().err.split())
        with pytest.raises(LedgerError, match="whose manifest is not here: its price cannot be checked"):
            verify(file=Path("books.zip"))

    def test_a_manifest_of_another_model_in_its_place(self, desk: Desk) -> None:
        export(out=Path("books.zip"))
        with zipfile.ZipFile("books.zip") as made, zipfile.ZipFile("false.zip", "w") as false:
            for name in made.namelist():
                raw = made.read(name)
                false.writestr(name, raw if self.root not in name else manifest_bytes(manifest(78)))
        with pytest.raises(LedgerError, match="a manifest is not that of the model"):
            verify(file=Path("false.zip"))
