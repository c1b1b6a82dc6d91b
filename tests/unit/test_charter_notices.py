"""The notice board: who may post, who wins, what is kept, and that neither order nor repetition matters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridllm.charter import board as board_module
from gridllm.charter.board import LONGEST_CERTIFICATE_S, NoticeBoard
from gridllm.charter.document import sign_charter
from gridllm.charter.minimums import Admission, Minimums
from gridllm.charter.notices import AMENDMENT_TYPE, REVOCATION_TYPE, Amendment, Revocation
from gridllm.errors import NoticeError
from gridllm.identity.keys import Identity
from gridllm.identity.statement import sign_statement
from gridllm.ids import PeerId
from tests.charters import MAINTAINERS, charter

SIGNED = sign_charter(charter(), MAINTAINERS[:2])
OTHER_GRID = sign_charter(charter(name="other"), MAINTAINERS[:2])
NOW = 1_800_000_000
PEERS = [PeerId(f"12D3KooWPeer{number}") for number in range(3)]


def revocation(
    peer: str = PEERS[0],
    issued: int = NOW,
    until: int = 0,
    why: str = "cheated",
    signers: list[Identity] | None = None,
    grid: str = SIGNED.grid,
) -> bytes:
    notice = Revocation(grid=grid, peer=peer, why=why, issued=issued, until=until)
    return sign_statement(notice, REVOCATION_TYPE, signers or MAINTAINERS[:2])


def amendment(serial: int, memory_bytes: int = 1, signers: list[Identity] | None = None) -> bytes:
    admission = Admission(required=True, serve=Minimums(memory_bytes=memory_bytes))
    notice = Amendment(grid=SIGNED.grid, serial=serial, issued=NOW, admission=admission)
    return sign_statement(notice, AMENDMENT_TYPE, signers or MAINTAINERS[:2])


def board(path: Path | None = None, now: float = NOW) -> NoticeBoard:
    return NoticeBoard(SIGNED, path, clock=lambda: now)


class TestWhoMayPost:
    def test_an_empty_board_says_what_the_charter_says(self) -> None:
        empty = board()
        assert (empty.admission, empty.amendment, empty.raws()) == (SIGNED.charter.admission, None, [])
        assert empty.revocation(PEERS[0]) is None

    @pytest.mark.parametrize(
        ("raw", "says"),
        [
            (revocation(signers=MAINTAINERS[:1]), "lacks valid signatures by 2"),
            (revocation(signers=[MAINTAINERS[0], Identity.ephemeral()]), "lacks valid signatures by 2"),
            (revocation(grid=OTHER_GRID.grid), "does not apply"),
            (OTHER_GRID.raw, "no notice of the maintainers"),
            (b"", "no notice"),
            (b"\xff" * 100, "no notice"),
            (b"x" * 20_000, "exceeds the limit"),
        ],
    )
    def test_refused(self, raw: bytes, says: str) -> None:
        empty = board()
        with pytest.raises(NoticeError, match=says):
            empty.add(raw)
        assert empty.raws() == []

    def test_the_same_notice_signed_by_others_is_no_news(self) -> None:
        one = board()
        assert one.add(revocation(signers=MAINTAINERS[:2]))
        assert not one.add(revocation(signers=MAINTAINERS[1:]))
        other = board()
        other.add(revocation(signers=MAINTAINERS[1:]))
        assert one.digest == other.digest

    def test_signatures_of_strangers_are_not_kept(self) -> None:
        plain, crowded = board(), board()
        plain.add(revocation())
        crowded.add(revocation(signers=[*MAINTAINERS[:2], *(Identity.ephemeral() for _ in range(8))]))
        assert plain.raws() == crowded.raws()


class TestWhoWins:
    def test_the_latest_revocation_of_a_peer(self) -> None:
        one = board()
        assert one.add(revocation(issued=NOW, until=NOW + 10))
        assert not one.add(revocation(issued=NOW - 1, until=NOW + 1000))
        assert one.add(revocation(issued=NOW, until=NOW + 20))
        assert one.add(revocation(PEERS[1]))
        latest = one.revocation(PEERS[0])
        assert latest is not None
        assert latest.until == NOW + 20
        assert [found.peer for found in one.revocations] == [PEERS[0], PEERS[1]]

    def test_the_amendment_of_highest_serial(self) -> None:
        one = board()
        assert one.add(amendment(2, 200))
        assert not one.add(amendment(1, 100))
        assert one.admission.serve.memory_bytes == 200
        assert one.add(amendment(3, 300))
        assert one.amendment is not None
        assert (one.amendment.serial, one.admission.serve.memory_bytes) == (3, 300)

    def test_what_matters_to_nobody_is_dropped(self) -> None:
        old = NOW - LONGEST_CERTIFICATE_S - 301
        assert not board().add(revocation(issued=old, until=old))
        assert board().add(revocation(issued=old, until=NOW))
        assert board().add(revocation(issued=old + 2, until=old))

    def test_only_so_many_revocations(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(board_module, "MAX_REVOCATIONS", 2)
        one = board()
        for number in (1, 2, 0):
            one.add(revocation(PEERS[number], issued=NOW + number))
        assert [found.peer for found in one.revocations] == [PEERS[2], PEERS[1]]


OLD = NOW - LONGEST_CERTIFICATE_S - 301
NOTICES = [
    *(revocation(peer, issued, until) for peer in PEERS[:2] for issued in (OLD, NOW, NOW + 1) for until in (0, NOW)),
    *(revocation(why=why) for why in ("this", "that")),
    *(amendment(serial, memory) for serial in (1, 2) for memory in (1, 2)),
    amendment(2, 2, MAINTAINERS),
]


@settings(max_examples=60, deadline=None)
@given(first=st.lists(st.sampled_from(NOTICES)), order=st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_matters(first: list[bytes], order: object) -> None:
    second = [*first, *first[::2]]
    order.shuffle(second)  # type: ignore[attr-defined]
    one, other = board(), board()
    for raw in first:
        one.add(raw)
    for raw in second:
        other.add(raw)
    assert one.digest == other.digest
    assert (one.admission, one.revocations) == (other.admission, other.revocations)


@settings(max_examples=40, deadline=None)
@given(mine=st.lists(st.sampled_from(NOTICES)), theirs=st.lists(st.sampled_from(NOTICES)))
def test_boards_that_exchange_what_they_hold_agree(mine: list[bytes], theirs: list[bytes]) -> None:
    one, other = board(), board()
    for posted, raws in ((one, mine), (other, theirs)):
        for raw in raws:
            posted.add(raw)
    held = one.raws()
    for raw in other.raws():
        one.add(raw)
    for raw in held:
        other.add(raw)
    assert one.digest == other.digest


class TestKept:
    def test_across_a_restart(self, tmp_path: Path) -> None:
        path = tmp_path / "grids" / "home" / "notices.json"
        one = board(path)
        one.add(revocation())
        one.add(amendment(1))
        again = board(path)
        assert (again.digest, again.admission) == (one.digest, one.admission)

    def test_a_damaged_entry_is_dropped_alone(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        path = tmp_path / "notices.json"
        board(path).add(revocation())
        stored = json.loads(path.read_bytes())
        stored["notices"] += [stored["notices"][0].replace('"sig":"', '"sig":"A', 1), "nonsense", 7]
        path.write_text(json.dumps(stored))
        assert [found.peer for found in board(path).revocations] == [PEERS[0]]
        assert caplog.text.count("Dropped a damaged notice") == 3

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"grid": "x", "notices": []}', '{"grid": 1, "notices": 2}'])
    def test_a_damaged_file_counts_as_empty(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "notices.json"
        path.write_text(text)
        one = board(path)
        assert one.raws() == []
        one.add(revocation())
        assert board(path).raws() == one.raws()

    async def test_two_processes_share_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "notices.json"
        one, other = board(path), board(path)
        told: list[bytes] = []
        other.listen(lambda: told.append(other.digest))
        one.add(revocation(PEERS[0]))
        other.add(revocation(PEERS[1]))  # does not know of the first one yet, and must not write over it
        assert await other.reread()
        assert await one.reread()
        assert not await one.reread()
        assert len(one.revocations) == 2
        assert told[-1] == one.digest == other.digest == board(path).digest

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        one = board(tmp_path / "file" / "notices.json")
        with pytest.raises(NoticeError, match="holds, but cannot be kept"):
            one.add(revocation())
        assert one.revocation(PEERS[0]) is not None


class TestListening:
    def test_told_of_changes_only(self) -> None:
        one = board()
        told: list[bytes] = []
        stop = one.listen(lambda: told.append(one.digest))
        one.add(revocation())
        one.add(revocation())
        assert told == [one.digest]
        stop()
        one.add(amendment(1))
        assert len(told) == 1

    def test_nothing_is_sorted_anew_while_nothing_changes(self) -> None:
        posted = board()
        posted.add(revocation())
        order, digest = posted._in_order(), posted.digest
        assert not posted.add(revocation())
        assert not posted.add(revocation(signers=MAINTAINERS[1:3]))
        assert posted._in_order() is order
        assert posted.add(revocation(PEERS[1]))
        assert len(posted.raws()) == 2
        assert posted.digest not in (digest, board().digest)

    async def test_sound_ones_before_a_forged_one_count(self) -> None:
        one = board()
        with pytest.raises(NoticeError):
            await one.take([revocation(PEERS[0]), b"forged", revocation(PEERS[1])])
        assert [found.peer for found in one.revocations] == [PEERS[0]]
