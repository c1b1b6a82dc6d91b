"""Evidence: what convicts a keeper of two histories, and that nothing convicts an honest one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridllm.errors import LedgerError
from gridllm.identity.keys import Identity
from gridllm.identity.statement import sign_statement
from gridllm.ledger.log.evidence import Equivocation, conflict, fork, verify_equivocation
from gridllm.ledger.log.heads import HEAD_TYPE, cosign_head
from gridllm.ledger.log.tree import prefix_path, root_of
from tests.unit.log_heads import (
    KEEPER,
    LEAVES,
    NODE,
    NOW,
    OTHER,
    OTHER_GRID,
    SIGNED,
    STRANGER,
    head,
    rewritten,
    signed_head,
)
from tests.unit.naive_log import node_source


class TestConflict:
    def test_one_size_two_roots(self) -> None:
        a, b = signed_head(9), signed_head(9, rewritten(3), issued=NOW + 5)
        evidence = conflict(a, b, SIGNED)
        assert evidence is not None and evidence.keeper == KEEPER.public_key.hex()
        assert verify_equivocation(evidence.raw, SIGNED) == evidence
        assert conflict(cosign_head(b, OTHER), a, SIGNED) == evidence  # whoever accuses, the same bytes

    @pytest.mark.parametrize(
        "other",
        [
            signed_head(9, issued=NOW + 60),  # said again, later
            signed_head(9, rewritten(3), keeper=OTHER),  # another keeper's log
            signed_head(8, rewritten(3)),  # two sizes: not told by the heads alone
        ],
    )
    def test_no_conflict(self, other: bytes) -> None:
        assert conflict(signed_head(9), other, SIGNED) is None

    def test_nobody_is_accused_with_a_forged_head(self) -> None:
        forged = sign_statement(head(9, rewritten(3)), HEAD_TYPE, [STRANGER])
        with pytest.raises(LedgerError, match="forged"):
            conflict(signed_head(9), forged, SIGNED)


class TestFork:
    @given(st.integers(2, 200), st.data())
    @settings(max_examples=40)
    def test_two_sizes_two_histories(self, larger: int, data: st.DataObject) -> None:
        smaller = data.draw(st.integers(1, larger - 1))
        node = node_source(rewritten(data.draw(st.integers(0, smaller - 1)))[:larger])
        old, new = signed_head(smaller), signed_head(larger, root=root_of(larger, node).hex())
        evidence = fork(old, new, SIGNED, node)
        assert evidence is not None
        assert fork(new, old, SIGNED, node) == evidence
        assert verify_equivocation(evidence.raw, SIGNED) == evidence

    @given(st.integers(1, 200), st.data())
    @settings(max_examples=40)
    def test_an_honest_keeper_is_never_accused(self, larger: int, data: st.DataObject) -> None:
        smaller = data.draw(st.integers(0, larger))
        old, new = signed_head(smaller), signed_head(larger)
        assert fork(old, new, SIGNED, NODE) is None
        if smaller in (0, larger):
            return
        with pytest.raises(LedgerError, match="lead to another log"):
            fork(old, new, SIGNED, node_source(rewritten(data.draw(st.integers(0, larger - 1)))))

    @given(st.integers(2, 200), st.data())
    @settings(max_examples=60)
    def test_false_evidence_convicts_nobody(self, larger: int, data: st.DataObject) -> None:
        smaller = data.draw(st.integers(1, larger - 1))
        true = prefix_path(smaller, larger, NODE)
        false = prefix_path(smaller, larger, node_source(rewritten(data.draw(st.integers(0, larger - 1)))))
        at = data.draw(st.integers(0, len(true) - 1))
        for path in (true, false, [], true[1:], [*true, true[0]], [*true[:at], LEAVES[0][::-1], *true[at + 1 :]]):
            with pytest.raises(LedgerError):
                verify_equivocation(accusation(signed_head(smaller), signed_head(larger), path), SIGNED)

    def test_of_one_size_it_is_a_conflict(self) -> None:
        a, b = signed_head(9), signed_head(9, rewritten(3))
        assert fork(a, b, SIGNED, NODE) == conflict(a, b, SIGNED) is not None

    def test_other_keepers_have_other_logs(self) -> None:
        assert fork(signed_head(9), signed_head(12, rewritten(3), keeper=OTHER), SIGNED, NODE) is None


def accusation(first: bytes, second: bytes, path: list[bytes], **changes: object) -> bytes:
    fields: dict[str, object] = {
        "grid": SIGNED.grid,
        "keeper": KEEPER.public_key.hex(),
        "first": first.decode(),
        "second": second.decode(),
        "proof": [digest.hex() for digest in path],
    }
    return json.dumps(fields | changes).encode()


class TestEvidenceOfStrangers:
    A, B = signed_head(9), signed_head(9, rewritten(3))

    def test_it_needs_no_accuser(self) -> None:
        assert isinstance(verify_equivocation(accusation(self.A, self.B, []), SIGNED), Equivocation)

    @pytest.mark.parametrize(
        ("raw", "says"),
        [
            (accusation(A, A, []), "of one history"),
            (accusation(A, signed_head(9, issued=NOW + 1), []), "of one history"),
            (accusation(A, B, [LEAVES[0]]), "no path"),
            (accusation(A, B, [], keeper=OTHER.public_key.hex()), "heads of others"),
            (accusation(A, B, [], grid=OTHER_GRID.grid), "heads of others"),
            (accusation(A, signed_head(9, rewritten(3), keeper=OTHER), []), "heads of others"),
            (accusation(A, sign_statement(head(9, rewritten(3)), HEAD_TYPE, [OTHER]), []), "forged"),
            (accusation(signed_head(0), A, []), "no path"),
            (accusation(signed_head(12, rewritten(3)), A, [LEAVES[0]]), "is not the beginning"),
            (accusation(A, B, [], more=1), "malformed"),
            (accusation(A, B, []).replace(b"payload", b"\\ud800", 1), "malformed"),
            (accusation(A, B, []).replace(b"payload", "é".encode(), 1), "malformed"),
            (accusation(A, B, [LEAVES[0]] * 65), "malformed"),
            (b"", "malformed"),
            (b"[" * 20_000, "malformed"),
            (b"x" * 21_000, "exceeds the limit"),
        ],
    )
    def test_refused(self, raw: bytes, says: str) -> None:
        with pytest.raises(LedgerError, match=says):
            verify_equivocation(raw, SIGNED)

    def test_the_longest_fits(self) -> None:
        cosigned = self.A
        for _ in range(20):
            cosigned = cosign_head(cosigned, Identity.ephemeral())
        raw = accusation(cosigned, cosigned, [LEAVES[0]] * 54)
        with pytest.raises(LedgerError, match="no path"):  # read, and weighed
            verify_equivocation(raw, SIGNED)
