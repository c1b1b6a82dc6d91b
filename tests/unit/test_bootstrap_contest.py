"""Notices about the leaderboard on paper: maintainers see what they sign, and gather signatures for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import sign_charter
from gridllm.cli.show import facts_text
from gridllm_bootstrap.cli.notice_view import notice_facts
from gridllm_bootstrap.paper import paper_of, read_paper, write_paper
from tests.charters import MAINTAINERS, charter
from tests.unit.contests import crown, listing, model, rules

SIGNED = sign_charter(charter(), MAINTAINERS[:2])
KEYS = SIGNED.charter.maintainers
BETTER = model("better")
FIRST = MAINTAINERS[:1]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (
            rules(SIGNED, 3, FIRST, fee=5_000_000, tier=10**6),
            ("rules, number 3", "sums: choice, 20 items", "5 credits"),
        ),
        (rules(SIGNED, 1, FIRST), ("listed models are open to all", "100% of the score")),
        (listing(SIGNED, BETTER, contribution=10**6, signers=FIRST), ("Listed", "better: 8 blocks", "of 1 credit")),
        (listing(SIGNED, BETTER, signers=FIRST, withdrawn=True), ("Withdrawn", BETTER.root)),
        (crown(SIGNED, BETTER, 2, FIRST), ("Champion", BETTER.root, "7e7e7e")),
    ],
    ids=["rules", "free rules", "listing", "withdrawn", "crown"],
)
def test_signed_in_turn_and_posted(tmp_path: Path, raw: bytes, says: tuple[str, ...]) -> None:
    path = tmp_path / "draft.json"
    write_paper(path, paper_of(raw))
    paper = read_paper(path)
    assert paper.signers(KEYS) == KEYS[:1]
    text = facts_text(notice_facts(paper.content, SIGNED.charter)).plain
    for part in (*says, "home"):
        assert part in text
    both = paper.signed_by(MAINTAINERS[1])
    assert both.signers(KEYS) == KEYS[:2]
    assert NoticeBoard(SIGNED).add(both.raw)
