"""Heads: who may sign one, what a cosignature is, and that one continues another."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridllm.charter.document import sign_charter
from gridllm.charter.economy import Economy
from gridllm.errors import LedgerError
from gridllm.identity.keys import Identity
from gridllm.identity.statement import join_signatures, sign_statement
from gridllm.ledger.log.heads import (
    HEAD_TYPE,
    MAX_HEAD_BYTES,
    Head,
    cosign_head,
    cosigners,
    sign_head,
    verify_grown,
    verify_head,
)
from gridllm.ledger.log.tree import EMPTY_ROOT, MAX_SIZE, consistency_proof
from tests.charters import MAINTAINERS, charter
from tests.unit.log_heads import (
    KEEPER,
    NODE,
    OTHER,
    OTHER_GRID,
    SIGNED,
    STRANGER,
    THIRD,
    head,
    rewritten,
    signed_head,
)
from tests.unit.naive_log import node_source


class TestSigning:
    def test_it_says_what_was_signed(self) -> None:
        assert verify_head(signed_head(), SIGNED) == head()
        assert verify_head(signed_head(0), SIGNED).root == EMPTY_ROOT.hex()

    def test_only_its_keeper_signs_it(self) -> None:
        with pytest.raises(LedgerError, match="by its keeper only"):
            sign_head(head(), OTHER)

    @pytest.mark.parametrize(
        ("raw", "says"),
        [
            (sign_statement(head(), HEAD_TYPE, [OTHER]), "forged"),
            (sign_statement(head(), HEAD_TYPE, [STRANGER, OTHER]), "forged"),
            (signed_head(keeper=STRANGER), "no keeper of this grid"),
            (signed_head(grid=OTHER_GRID.grid), "is of the grid"),
            (sign_statement(head(), "application/vnd.gridllm.grant+json", [KEEPER]), "is of type"),
            (SIGNED.raw, "is of type"),
            (b"", "no head of a log"),
            (b"\xff" * 100, "no head of a log"),
            (b"x" * 10_000, "exceeds the limit"),
        ],
    )
    def test_refused(self, raw: bytes, says: str) -> None:
        for refuse in (lambda: verify_head(raw, SIGNED), lambda: cosigners(raw, SIGNED)):
            with pytest.raises(LedgerError, match=says):
                refuse()

    def test_a_maintainer_that_keeps_no_books_has_no_log(self) -> None:
        economy = Economy(keepers=(OTHER.public_key.hex(),))
        closed = sign_charter(charter(economy=economy), MAINTAINERS[:2])
        verify_head(signed_head(keeper=OTHER, grid=closed.grid), closed)
        with pytest.raises(LedgerError, match="no keeper"):
            verify_head(signed_head(keeper=KEEPER, grid=closed.grid), closed)

    @given(st.data())
    @settings(max_examples=60)
    def test_no_byte_can_be_altered(self, data: st.DataObject) -> None:
        raw = bytearray(signed_head())
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[at]))
        with contextlib.suppress(LedgerError):  # otherwise it says the same: bits of base64 that stand for nothing
            assert verify_head(bytes(raw), SIGNED) == head()

    @pytest.mark.parametrize(
        "changes",
        [
            {"size": -1},
            {"size": MAX_SIZE + 1},
            {"size": 0},
            {"size": 7.0},
            {"size": True},
            {"root": "AB" * 32},
            {"root": "ab" * 31},
            {"issued": -1},
            {"keeper": "12"},
            {"more": 1},
        ],
    )
    def test_fields_are_strict(self, changes: dict[str, object]) -> None:
        with pytest.raises(ValueError, match="1 validation error"):
            Head.model_validate(head().model_dump() | changes)


class TestCosigning:
    def test_who_has_seen_it(self) -> None:
        raw = signed_head()
        assert cosigners(raw, SIGNED) == []
        raw = cosign_head(cosign_head(raw, THIRD), OTHER)
        assert cosigners(raw, SIGNED) == [OTHER.public_key.hex(), THIRD.public_key.hex()]
        assert verify_head(raw, SIGNED) == head()

    def test_signatures_gathered_apart_are_joined(self) -> None:
        raw = signed_head()
        joined = join_signatures([cosign_head(raw, OTHER), cosign_head(raw, THIRD)])
        assert len(cosigners(joined, SIGNED)) == 2

    def test_strangers_and_forgeries_count_for_nothing(self) -> None:
        raw = cosign_head(cosign_head(signed_head(), STRANGER), OTHER)
        envelope = json.loads(raw)
        envelope["signatures"][-1]["keyid"] = THIRD.public_key.hex()
        assert cosigners(json.dumps(envelope).encode(), SIGNED) == []
        assert cosigners(raw, SIGNED) == [OTHER.public_key.hex()]

    def test_cosignatures_do_not_make_a_head(self) -> None:
        raw = sign_statement(head(), HEAD_TYPE, [OTHER, THIRD])
        with pytest.raises(LedgerError, match="forged"):
            cosigners(raw, SIGNED)

    def test_a_key_is_no_oracle(self) -> None:
        with pytest.raises(LedgerError, match="is of type"):
            cosign_head(sign_statement(head(), "application/vnd.gridllm.grant+json", [STRANGER]), OTHER)
        forged = sign_statement(head(digests=rewritten(3)), HEAD_TYPE, [STRANGER])
        with pytest.raises(LedgerError, match="said to be its own"):
            cosign_head(forged, KEEPER)

    def test_all_maintainers_fit(self) -> None:
        many = [Identity.ephemeral() for _ in range(16)]
        grid = sign_charter(charter(maintainers=[each.public_key.hex() for each in many]), many[:2])
        raw = signed_head(7, keeper=many[0], grid=grid.grid, issued=10**11)
        for each in many[1:]:
            raw = cosign_head(raw, each)
        assert len(cosigners(raw, grid)) == 15
        assert len(raw) < 4096 < MAX_HEAD_BYTES
        strangers = (Identity.ephemeral() for _ in range(32))
        with pytest.raises(LedgerError):
            for each in strangers:
                raw = cosign_head(raw, each)
        assert len(cosigners(raw, grid)) == 15  # the last one that it gave can be read


class TestGrowth:
    def test_it_continues(self) -> None:
        for old, new in ((7, 150), (0, 5), (9, 9), (64, 150)):
            verify_grown(head(old), head(new), consistency_proof(old, new, NODE))

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (head(7), head(150, rewritten(3))),
            (head(150), head(7)),
            (head(7), head(7, rewritten(3))),
            (head(7), head(150, keeper=OTHER)),
            (head(7), head(150, grid=OTHER_GRID.grid)),
        ],
    )
    def test_it_does_not(self, old: Head, new: Head) -> None:
        for proof in ([], consistency_proof(7, 150, NODE), consistency_proof(7, 150, node_source(rewritten(3)))):
            with pytest.raises(LedgerError):
                verify_grown(old, new, proof)
