"""Minimums: what follows from a model, what flags change, amendments and revocations as they are made and posted."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridllm.admission.defaults import MIB, Shape, default_admission
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import SignedCharter, sign_charter
from gridllm.charter.gossip import serve_notices
from gridllm.charter.minimums import Admission, Minimums
from gridllm.charter.pin import Pins
from gridllm.errors import NoticeError, SwarmError, UsageError
from gridllm.identity.keys import Identity, peer_of
from gridllm.ids import PeerId
from gridllm.planning.placement import bytes_needed
from gridllm.swarm.interface import Swarm
from gridllm.swarm.memory import MemoryNetwork
from gridllm_bootstrap.cli.notice_view import minimums_table
from gridllm_bootstrap.founding.defaults import WHAT, why
from gridllm_bootstrap.founding.minimum_flags import MinimumFlags, changed
from gridllm_bootstrap.notices.minimums import Change, amendment, rows
from gridllm_bootstrap.notices.posting import post
from gridllm_bootstrap.notices.revoke import check_wish, revocation
from tests.charters import MAINTAINERS, charter

PEER = peer_of(bytes([1]) * 32)  # the same in each process: it is part of tests' names
SMALL = Shape(blocks=8, hidden_bytes=768, block_bytes=1_600_000, cache_bytes=512, file_bytes=7_000_000)
LARGE = Shape(blocks=80, hidden_bytes=16384, block_bytes=1_700_000_000, cache_bytes=4096, file_bytes=140_000_000_000)


class TestDefaults:
    def test_of_the_demo_model_any_computer_reaches(self) -> None:
        found = default_admission([SMALL])
        assert found.required
        assert found.serve.decode_blocks_per_s == 16  # 2 tokens/s through 8 blocks
        assert found.serve.batch_blocks_per_s == 32
        needed = bytes_needed(1, SMALL.block_bytes, SMALL.cache_bytes)  # what 'serve' asks for before it takes a block
        assert needed <= found.serve.memory_bytes < needed + MIB
        assert found.serve.upload_mbit_s == 1
        assert not found.serve.reachable

    def test_of_a_large_model_follow_its_shape(self) -> None:
        found = default_admission([SMALL, LARGE])
        assert found.serve.decode_blocks_per_s == 160
        assert 9_600_000_000 < found.serve.memory_bytes < 9_800_000_000  # 5 of 80 blocks
        assert found.serve.upload_mbit_s == pytest.approx(2.1)
        assert found.serve.disk_bytes > 8_000_000_000

    @pytest.mark.parametrize("role", ["relay", "seed"])
    def test_relays_and_seeds_need_not_compute(self, role: str) -> None:
        minimums = default_admission([LARGE]).of(role)  # type: ignore[arg-type]
        computing = (minimums.decode_blocks_per_s, minimums.batch_blocks_per_s, minimums.prefill_blocks_per_s)
        assert (*computing, minimums.memory_bytes) == (0, 0, 0, 0)

    def test_each_is_explained(self) -> None:
        assert set(WHAT) == set(Minimums.model_fields)
        for row in rows(default_admission([SMALL])):
            assert why(row.role, row.name), row
            assert row.cells[3]


class TestFlags:
    def test_role_and_value(self) -> None:
        flags = MinimumFlags(
            memory_bytes=["2GiB"], upload_mbit_s=["5", "relay=20.5"], reachable=["seed=yes", "relay=0"], version=["0"]
        )
        found = changed(default_admission([SMALL]), flags.changes())
        assert found.serve.memory_bytes == 2 * 2**30
        assert (found.serve.upload_mbit_s, found.relay.upload_mbit_s) == (5, 20.5)
        assert (found.seed.reachable, found.relay.reachable, found.serve.version) == (True, False, "")
        assert found.serve.decode_blocks_per_s == 16

    @pytest.mark.parametrize(
        ("flags", "says"),
        [
            ({"memory_bytes": ["lots"]}, "not a size"),
            ({"upload_mbit_s": ["king=1"]}, "no role 'king'"),
            ({"upload_mbit_s": ["-1"]}, "not a number"),
            ({"upload_mbit_s": ["nan"]}, "not a number"),
            ({"reachable": ["maybe"]}, "yes or no"),
            ({"version": ["new"]}, "serve version cannot be 'new'"),
            ({"upload_mbit_s": ["99999999"]}, "upload_mbit_s cannot be"),
        ],
    )
    def test_refused(self, flags: dict[str, list[str]], says: str) -> None:
        with pytest.raises(UsageError, match=says):
            changed(Admission(), MinimumFlags(**flags).changes())

    def test_life(self) -> None:
        assert MinimumFlags(certificate_life="90min").certificate_s() == 5400
        assert MinimumFlags().certificate_s() is None
        for text in ("29s", "32d", "soon"):
            with pytest.raises(UsageError):
                MinimumFlags(certificate_life=text).certificate_s()


@pytest.fixture
def signed() -> SignedCharter:
    fields = {"threshold": 1, "admission": default_admission([SMALL])}
    return sign_charter(charter(**fields), MAINTAINERS[:1])


class TestMaking:
    def test_amendments_count_up(self, signed: SignedCharter) -> None:
        board = NoticeBoard(signed)
        board.add(amendment(signed, board, Change({}, certificate_s=60), MAINTAINERS[0]))
        board.add(amendment(signed, board, Change({("relay", "reachable"): False}), MAINTAINERS[1]))
        latest = board.amendment
        assert latest is not None
        assert (latest.serial, latest.admission.certificate_s, latest.admission.relay.reachable) == (2, 60, False)
        assert latest.admission.serve == signed.charter.admission.serve

    def test_no_change_is_no_amendment(self, signed: SignedCharter) -> None:
        with pytest.raises(UsageError, match="in force already"):
            amendment(signed, NoticeBoard(signed), Change({}, required=True), MAINTAINERS[0])

    def test_a_later_revocation_outranks_an_earlier_one(self, signed: SignedCharter) -> None:
        board = NoticeBoard(signed)
        for for_s in (600, 60, 0):
            assert board.add(revocation(signed, board, PEER, "cheats", for_s, MAINTAINERS[0]))
        found = board.revocation(PEER)
        assert found is not None
        assert found.until == found.issued

    @pytest.mark.parametrize(
        ("peer", "why", "for_s", "says"),
        [
            ("12D3KooWJoin", "x", 1, "not the peer id"),
            (PEER, " ", 1, "Say in up to"),
            (PEER, "x" * 301, 1, "Say in up to"),
            (PEER, "x", 10**10, "ten years"),
        ],
    )
    def test_refused_wishes(self, peer: str, why: str, for_s: int, says: str) -> None:
        with pytest.raises(UsageError, match=says):
            check_wish(peer, why, for_s)

    def test_the_table(self) -> None:
        text = minimums_table(default_admission([SMALL])).plain
        assert "decode, one session" in text
        assert "16 blocks/s" in text
        assert minimums_table(Admission()).plain == "Admission is open: no certificate needed"


class TestPosting:
    async def test_told_to_whoever_answers(self, tmp_path: Path, signed: SignedCharter) -> None:
        network = MemoryNetwork()
        member = network.join(Identity.ephemeral())
        theirs = NoticeBoard(signed)
        await serve_notices(member, theirs)
        theirs.add(amendment(signed, theirs, Change({}, certificate_s=60), MAINTAINERS[2]))
        pins = Pins(tmp_path)
        pins.pin(signed)
        gone = Identity.ephemeral().peer
        pins.remember_peers(signed, {gone: [f"/ip4/127.0.0.1/tcp/9/p2p/{gone}"], member.peer: [member.addresses[0]]})

        async def enter() -> Swarm:
            return network.join(Identity.ephemeral())

        told = await post(
            signed,
            pins,
            lambda board: amendment(signed, board, Change({}, certificate_s=120), MAINTAINERS[0]),
            enter,
        )
        assert told == 1
        assert theirs.amendment is not None
        assert (theirs.amendment.serial, theirs.admission.certificate_s) == (2, 120)  # counted on from what they knew
        assert NoticeBoard(signed, pins.notices_path(signed)).digest == theirs.digest

    async def test_kept_although_nobody_can_be_told(self, tmp_path: Path, signed: SignedCharter) -> None:
        async def fail() -> Swarm:
            raise SwarmError("no libp2p here")

        pins = Pins(tmp_path)
        make = lambda board: revocation(signed, board, PeerId(PEER), "x", 0, MAINTAINERS[0])  # noqa: E731
        assert await post(signed, pins, make, fail) == 0
        assert NoticeBoard(signed, pins.notices_path(signed)).revocation(PEER) is not None

    async def test_what_is_not_valid_is_not_posted(self, tmp_path: Path, signed: SignedCharter) -> None:
        async def fail() -> Swarm:
            raise SwarmError("no libp2p here")

        make = lambda board: revocation(signed, board, PeerId(PEER), "x", 0, Identity.ephemeral())  # noqa: E731
        with pytest.raises(NoticeError):
            await post(signed, Pins(tmp_path), make, fail)
