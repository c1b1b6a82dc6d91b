"""Manifests of listed models: found by their roots, kept, never forgotten; and where the leaderboard is found."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from gridllm.admission import manifests as manifests_module
from gridllm.admission.cards import find_leaderboard, leaderboard_sources, publish_card
from gridllm.admission.manifests import Manifests
from gridllm.charter.board import NoticeBoard
from gridllm.charter.contest import Rules
from gridllm.charter.document import ModelEntry, sign_charter
from gridllm.charter.fetch import serve_charter
from gridllm.charter.pin import Pins
from gridllm.errors import CharterError
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot
from gridllm.models.manifest import Manifest, TensorEntry, manifest_bytes, root
from gridllm.models.sizes import block_parameters
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from tests.charters import ENTRY, MAINTAINERS, charter
from tests.unit.contests import BOARD, listing, model, rules
from tests.unit.keeper_stations import until


def manifest(width: int) -> Manifest:
    """Of a model of eight blocks."""
    size = {"dtype": "F32", "size": 4, "sha256": "00" * 32}
    tensors = {f"layers.{at}.weight": TensorEntry(**size | {"shape": [10 + at, width]}) for at in range(ENTRY.blocks)}
    return Manifest(format=1, family="llama", config={}, generation_config=None, tokenizer={}, tensors=tensors)


OWN, LISTED = manifest(1000), manifest(1001)
OWN_ENTRY = ModelEntry(**ENTRY.model_dump() | {"root": root(OWN)})
ENTRY_LISTED = model("better", root=root(LISTED))
SIGNED = sign_charter(charter(models=[OWN_ENTRY]), MAINTAINERS[:2])
ROOT = ENTRY_LISTED.model_root


@pytest.fixture
def pins(tmp_path: Path) -> Pins:
    made = Pins(tmp_path)
    made.pin(SIGNED)
    made.save_manifest(OWN_ENTRY.model_root, manifest_bytes(OWN))
    return made


@pytest.fixture
def board() -> NoticeBoard:
    made = NoticeBoard(SIGNED)
    made.add(rules(SIGNED))
    return made


async def leaderboard(network: MemoryNetwork, manifests: dict[ModelRoot, bytes], **options: Any) -> MemorySwarm:
    """On line, with a card."""
    swarm = network.join(options.get("identity", BOARD))
    await serve_charter(swarm, SIGNED.raw, manifests)
    await publish_card(swarm, SIGNED.grid, options.get("maintainer", MAINTAINERS[0]), office="leaderboards")
    return swarm


class TestFound:
    async def test_the_peer_that_the_rules_name_with_a_maintainers_card(self, board: NoticeBoard) -> None:
        network = MemoryNetwork()
        here = network.join(Identity.ephemeral())
        assert await find_leaderboard(here, SIGNED, board.rules) is None
        await leaderboard(network, {}, identity=Identity.ephemeral())  # another's account, though a maintainer signed
        assert await find_leaderboard(here, SIGNED, board.rules) is None
        there = await leaderboard(network, {})
        card = await find_leaderboard(here, SIGNED, board.rules)
        assert card is not None
        assert (card.peer, tuple(card.addresses)) == (there.peer, there.addresses)
        assert await find_leaderboard(here, SIGNED, None) is None
        assert await leaderboard_sources(here, SIGNED, board, ROOT) == {there.peer: there.addresses}
        assert await leaderboard_sources(here, SIGNED, board, OWN_ENTRY.root) == {}, "seeds and nodes have it"

    async def test_nobody_announces_itself(self, board: NoticeBoard) -> None:
        network = MemoryNetwork()
        await leaderboard(network, {}, maintainer=Identity.ephemeral())
        assert await find_leaderboard(network.join(Identity.ephemeral()), SIGNED, board.rules) is None

    async def test_another_grids_rules_name_another(self, board: NoticeBoard) -> None:
        network = MemoryNetwork()
        await leaderboard(network, {})
        assert board.rules is not None
        other: Rules = board.rules.model_copy(update={"account": MAINTAINERS[0].public_key.hex()})
        assert await find_leaderboard(network.join(Identity.ephemeral()), SIGNED, other) is None


class TestKnown:
    async def test_a_listed_model_is_fetched_and_never_forgotten(self, pins: Pins, board: NoticeBoard) -> None:
        network = MemoryNetwork()
        await leaderboard(network, {ROOT: manifest_bytes(LISTED)})
        known = Manifests(SIGNED, board, pins)
        known.load()
        assert list(known.models) == [OWN_ENTRY.model_root]
        following = asyncio.create_task(known.follow(network.join(Identity.ephemeral())))
        try:
            board.add(listing(SIGNED, ENTRY_LISTED))
            await until(lambda: ROOT in known.models)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        assert known.raws[ROOT] == manifest_bytes(LISTED)
        assert known.blocks[ROOT] == block_parameters(LISTED)
        again = Manifests(SIGNED, NoticeBoard(SIGNED), pins)  # no board names it any more
        again.load()
        assert set(again.models) == {OWN_ENTRY.model_root, ROOT}

    async def test_nobody_has_it_and_is_asked_again_later(
        self, pins: Pins, board: NoticeBoard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        network, held = MemoryNetwork(), dict[ModelRoot, bytes]()
        await leaderboard(network, held)
        here = network.join(Identity.ephemeral())
        monkeypatch.setattr(manifests_module, "FIRST_PAUSE_S", 0.2)
        known = Manifests(SIGNED, board, pins)
        assert not await known.find(here, ROOT)
        held[ROOT] = manifest_bytes(LISTED)
        assert not await known.find(here, ROOT), "left alone for a while"
        await asyncio.sleep(0.25)
        assert await known.find(here, ROOT)

    async def test_another_models_manifest_is_not_taken(self, pins: Pins, board: NoticeBoard) -> None:
        network = MemoryNetwork()
        await leaderboard(network, {ROOT: manifest_bytes(OWN)})
        known = Manifests(SIGNED, board, pins)
        assert not await known.find(network.join(Identity.ephemeral()), ROOT)
        assert (ROOT in known.models, pins.manifest(ROOT), pins.models(SIGNED)) == (False, None, [])

    @pytest.mark.parametrize(("bound", "most"), [("MOST_UNLISTED", 2), ("MOST_UNLISTED_BYTES", 2000)])
    async def test_who_makes_models_up_fills_no_disk(
        self,
        pins: Pins,
        board: NoticeBoard,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        bound: str,
        most: int,
    ) -> None:
        monkeypatch.setattr(manifests_module, bound, most)
        made_up = {root(one): manifest_bytes(one) for one in map(manifest, range(2000, 2005))}
        network = MemoryNetwork()
        await leaderboard(network, made_up | {ROOT: manifest_bytes(LISTED)})
        here, known = network.join(Identity.ephemeral()), Manifests(SIGNED, board, pins)
        known.load()
        learnt = [await known.find(here, one) for one in made_up]
        assert learnt == [True, True, False, False, False]
        assert "no listing names it, and 2 such models" in caplog.text
        board.add(listing(SIGNED, ENTRY_LISTED))
        assert await known.find(here, ROOT), "what is listed has room"
        again = Manifests(SIGNED, board, pins)
        again.load()
        assert [await again.find(here, one) for one in made_up] == learnt, "those kept are found, and no more"
        assert len(pins.models(SIGNED)) == 3

    def test_one_of_the_charters_is_missing(self, tmp_path: Path, board: NoticeBoard) -> None:
        with pytest.raises(CharterError, match=r"manifest of model 'demo' .* is missing or damaged"):
            Manifests(SIGNED, board, Pins(tmp_path)).load()

    def test_a_listed_one_that_cannot_be_used_keeps_nobody_from_starting(self, pins: Pins, board: NoticeBoard) -> None:
        odd = b'{"format": 7}'
        strange = ModelRoot(hashlib.sha256(odd).hexdigest())
        pins.save_manifest(strange, odd)
        pins.remember_model(SIGNED, strange)
        known = Manifests(SIGNED, board, pins)
        known.load()
        assert set(known.models) == {OWN_ENTRY.model_root}

    def test_a_damaged_list_of_models_counts_as_none(self, pins: Pins) -> None:
        pins.remember_model(SIGNED, ROOT)
        assert pins.models(SIGNED) == [ROOT]
        path = pins.notices_path(SIGNED).with_name("models.json")
        for text in ("", "[]", '{"grid": 1}', f'{{"grid": "{SIGNED.grid}", "roots": [7]}}'):
            path.write_text(text)
            assert pins.models(SIGNED) == []
