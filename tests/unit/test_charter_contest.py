"""The maintainers' notices about a leaderboard: which one holds, and what the grid's catalogue says by them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridllm.charter import board as board_module
from gridllm.charter.board import NoticeBoard
from gridllm.charter.catalogue import CHAMPION, Catalogue
from gridllm.charter.document import sign_charter
from gridllm.charter.economy import Economy, Tier
from gridllm.charter.notice_file import NoticeFile
from gridllm.errors import CharterError, NoticeError
from tests.charters import ENTRY, MAINTAINERS, charter
from tests.unit.contests import NOW, crown, listing, model, rules

SIGNED = sign_charter(charter(), MAINTAINERS[:2])
A, B, C, D = (model(name) for name in ("a", "b", "c", "d"))
NOTICES = [
    *(
        listing(SIGNED, entry, NOW + at, at, withdrawn=gone)
        for entry in (A, B)
        for at in (0, 1)
        for gone in (False, True)
    ),
    *(listing(SIGNED, C, contribution=micro) for micro in (1, 2)),  # two of one moment
    *(crown(SIGNED, entry, serial) for entry in (A, B) for serial in (1, 2)),
    *(rules(SIGNED, serial, fee=fee) for serial in (1, 2) for fee in (1, 2)),
]


def board(*raws: bytes, path: Path | None = None) -> NoticeBoard:
    made = NoticeBoard(SIGNED, path, clock=lambda: NOW)
    for raw in raws:
        made.add(raw)
    return made


def exchange(*boards: NoticeBoard) -> None:
    """Until nobody tells anybody anything new."""
    for _ in boards:
        for raw in [raw for one in boards for raw in one.raws()]:
            for one in boards:
                one.add(raw)


def names(one: NoticeBoard) -> list[str]:
    return [entry.name for entry in Catalogue(SIGNED, one).entries]


@settings(max_examples=60, deadline=None)
@given(first=st.lists(st.sampled_from(NOTICES)), order=st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_matters(first: list[bytes], order: object) -> None:
    second = [*first, *first[::2]]
    order.shuffle(second)  # type: ignore[attr-defined]
    one, other = board(*first), board(*second)
    assert one.digest == other.digest
    assert (one.rules, one.crown, names(one)) == (other.rules, other.crown, names(other))


class TestWhichHolds:
    def test_the_highest_serial(self) -> None:
        one = board(rules(SIGNED, 2, fee=7), rules(SIGNED, 1, fee=9), crown(SIGNED, B, 2), crown(SIGNED, A, 1))
        assert one.rules is not None
        assert one.crown is not None
        assert (one.rules.fee, one.crown.root) == (7, B.root)
        assert one.add(crown(SIGNED, A, 3))
        assert not one.add(crown(SIGNED, B, 2))

    def test_two_crowns_of_one_serial_are_settled_alike_everywhere(self) -> None:
        one, other = board(crown(SIGNED, A, 4)), board(crown(SIGNED, B, 4))
        exchange(one, other)
        assert one.crown == other.crown
        assert one.crown is not None

    def test_the_latest_listing_of_a_root_and_a_withdrawal_before_another_of_that_moment(self) -> None:
        one = board(listing(SIGNED, A), listing(SIGNED, A, withdrawn=True))
        assert names(one) == [ENTRY.name]
        assert not one.add(listing(SIGNED, A, NOW - 1))
        assert one.add(listing(SIGNED, A, NOW + 1))
        assert names(one) == [ENTRY.name, "a"]

    def test_signed_by_too_few(self) -> None:
        alone = MAINTAINERS[:1]
        one = board()
        for raw in (rules(SIGNED, signers=alone), listing(SIGNED, A, signers=alone), crown(SIGNED, A, signers=alone)):
            with pytest.raises(NoticeError, match="lacks valid signatures"):
                one.add(raw)
        assert one.raws() == []

    def test_across_a_restart(self, tmp_path: Path) -> None:
        path = tmp_path / "notices.json"
        board(rules(SIGNED), listing(SIGNED, A), crown(SIGNED, A), path=path)
        again = board(path=path)
        assert Catalogue(SIGNED, again).champion == A
        assert again.rules is not None


class TestOnlySoMany:
    def test_the_oldest_go_and_the_champion_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(board_module, "MAX_LISTINGS", 2)
        raws = [listing(SIGNED, entry, NOW + at) for at, entry in enumerate((A, B, C, D))]
        assert names(board(*raws)) == [ENTRY.name, "c", "d"]
        assert names(board(crown(SIGNED, A), *raws)) == [ENTRY.name, "a", "c", "d"]
        late = board(*raws, crown(SIGNED, A))  # it let go of the champion before it knew
        exchange(late, board(crown(SIGNED, A), *raws))
        assert names(late) == [ENTRY.name, "a", "c", "d"]
        late.add(crown(SIGNED, D, 2))
        assert names(late) == [ENTRY.name, "c", "d"]

    def test_a_withdrawal_that_was_dropped_lets_no_older_listing_in_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(board_module, "MAX_LISTINGS", 2)
        one = board(listing(SIGNED, A), listing(SIGNED, A, NOW + 1, withdrawn=True))
        for at, entry in enumerate((B, C), start=2):
            one.add(listing(SIGNED, entry, NOW + at))
        assert not one.add(listing(SIGNED, A))
        assert names(one) == [ENTRY.name, "b", "c"]

    def test_the_file_holds_no_more_than_the_board(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(board_module, "MAX_LISTINGS", 2)
        path = tmp_path / "notices.json"
        raws = [listing(SIGNED, entry, NOW + at) for at, entry in enumerate((A, B, C, D))]
        one = board(crown(SIGNED, A), *raws, path=path)
        assert sorted(NoticeFile(path, SIGNED.grid).read()) == sorted(one.raws())


class TestCatalogue:
    def test_without_notices_it_is_the_charter(self) -> None:
        catalogue = Catalogue(SIGNED, board())
        assert catalogue.entries == [ENTRY]
        assert catalogue.model() == catalogue.model("demo") == catalogue.model(ENTRY.root) == ENTRY
        assert catalogue.champion is None
        with pytest.raises(CharterError, match="has no champion yet"):
            catalogue.model(CHAMPION)
        with pytest.raises(CharterError, match="serves no model 'a'; it serves: demo"):
            catalogue.model("a")

    def test_it_changes_with_the_board(self) -> None:
        one = board()
        catalogue = Catalogue(SIGNED, one)
        one.add(crown(SIGNED, B))
        assert catalogue.champion is None, "its listing has not come yet"
        for raw in (listing(SIGNED, B, NOW + 1), listing(SIGNED, A)):
            one.add(raw)
        assert [entry.name for entry in catalogue.entries] == ["demo", "a", "b"]
        assert catalogue.model(CHAMPION) == catalogue.model("b") == catalogue.entry(B.root) == B
        one.add(listing(SIGNED, B, NOW + 2, withdrawn=True))
        assert catalogue.champion is None
        assert catalogue.entry(B.root) is None
        assert catalogue.names == {ENTRY.root: "demo", A.root: "a", B.root: "b"}, "the books name it still"

    def test_the_charter_goes_before_a_listing_of_its_name_or_root(self) -> None:
        impostor = model("demo")
        catalogue = Catalogue(SIGNED, board(listing(SIGNED, impostor), listing(SIGNED, model("x", root=ENTRY.root))))
        assert catalogue.model("demo") == ENTRY
        assert catalogue.model(impostor.root) == impostor
        assert [entry.root for entry in catalogue.entries] == [ENTRY.root, impostor.root]

    def test_what_a_model_asks_for(self) -> None:
        economy = Economy(required=True, tiers=(Tier(model=ENTRY.root, contribution=5),))
        signed = sign_charter(charter(economy=economy), MAINTAINERS[:2])
        posted = NoticeBoard(signed)
        for raw in (listing(signed, A, contribution=7), listing(signed, model("x", root=ENTRY.root), contribution=3)):
            posted.add(raw)
        catalogue = Catalogue(signed, posted)
        assert [catalogue.contribution(one) for one in (ENTRY.root, A.root, B.root)] == [5, 7, 0]
        posted.add(listing(signed, A, NOW + 1, contribution=7, withdrawn=True))
        assert catalogue.contribution(A.root) == 7, "whoever serves it still opens it to nobody else"
