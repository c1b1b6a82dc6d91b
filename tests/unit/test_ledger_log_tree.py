"""Roots and proofs: published vectors, the RFC's own recursive definition, and that nothing altered passes."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gridllm.errors import LedgerError
from gridllm.ledger.log.proof import prefix_roots, verify_consistency, verify_inclusion
from gridllm.ledger.log.tree import EMPTY_ROOT, MAX_SIZE, consistency_proof, inclusion_proof, prefix_path, root_of
from gridllm.merkle import leaf_digest
from tests.unit.naive_log import edge_way, leaves, mth, node_source, path, subproof, way

# Certificate Transparency's reference tree (RFC 6962 and RFC 9162 hash alike): data of eight leaves, the root of each
# size, and the proofs that google/certificate-transparency and transparency-dev/merkle publish for it.
DATA = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
DIGESTS = [leaf_digest(bytes.fromhex(data)) for data in DATA]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = [  # index, size, proof
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENCY = [  # first, second, proof
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]

LEAVES = leaves(300)
NODE = node_source(LEAVES)
SIZES = st.integers(1, len(LEAVES))
DIGEST = st.binary(min_size=32, max_size=32)


@st.composite
def places(draw: st.DrawFn) -> tuple[int, int]:
    """An index and a size above it."""
    size = draw(SIZES)
    return draw(st.integers(0, size - 1)), size


@st.composite
def growths(draw: st.DrawFn) -> tuple[int, int]:
    """Two sizes, the first smaller."""
    second = draw(st.integers(2, len(LEAVES)))
    return draw(st.integers(1, second - 1)), second


@st.composite
def altered(draw: st.DrawFn, proof: list[bytes]) -> list[bytes]:
    """The proof with one bit flipped, one element gone, one more, or one of another length."""
    changed, at = list(proof), draw(st.integers(0, len(proof)))
    if at == len(proof) or draw(st.booleans()):
        changed.insert(at, draw(st.sampled_from(LEAVES[:3]) | DIGEST))
        return changed
    kind = draw(st.sampled_from(["bit", "gone", "short", "long"]))
    if kind == "bit":
        changed[at] = flipped(draw, changed[at])
    elif kind == "gone":
        del changed[at]
    else:
        changed[at] = changed[at][:-1] if kind == "short" else changed[at] + b"\0"
    return changed


def flipped(draw: st.DrawFn, digest: bytes) -> bytes:
    bit = draw(st.integers(0, 255))
    return (int.from_bytes(digest, "big") ^ 1 << bit).to_bytes(32, "big")


class TestPublished:
    @pytest.mark.parametrize("size", range(9))
    def test_roots(self, size: int) -> None:
        assert root_of(size, node_source(DIGESTS)).hex() == ROOTS[size] == mth(DIGESTS[:size]).hex()

    @pytest.mark.parametrize(("index", "size", "proof"), INCLUSION)
    def test_inclusion(self, index: int, size: int, proof: list[str]) -> None:
        made = inclusion_proof(index, size, node_source(DIGESTS))
        assert [digest.hex() for digest in made] == proof == [digest.hex() for digest in path(index, DIGESTS[:size])]
        verify_inclusion(bytes.fromhex(ROOTS[size]), size, index, DIGESTS[index], made)

    @pytest.mark.parametrize(("first", "second", "proof"), CONSISTENCY)
    def test_consistency(self, first: int, second: int, proof: list[str]) -> None:
        made = consistency_proof(first, second, node_source(DIGESTS))
        naive = subproof(first, DIGESTS[:second])
        assert [digest.hex() for digest in made] == proof == [digest.hex() for digest in naive]
        verify_consistency(first, second, bytes.fromhex(ROOTS[first]), bytes.fromhex(ROOTS[second]), made)


class TestInclusion:
    @given(places())
    def test_as_defined_and_it_verifies(self, place: tuple[int, int]) -> None:
        index, size = place
        proof = inclusion_proof(index, size, NODE)
        assert proof == path(index, LEAVES[:size])
        root = root_of(size, NODE)
        assert root == mth(LEAVES[:size])
        verify_inclusion(root, size, index, LEAVES[index], proof)

    @given(places(), st.data())
    def test_an_altered_proof_leaf_or_root_fails(self, place: tuple[int, int], data: st.DataObject) -> None:
        index, size = place
        root, leaf, proof = root_of(size, NODE), LEAVES[index], inclusion_proof(index, size, NODE)
        with pytest.raises(LedgerError):
            verify_inclusion(root, size, index, leaf, data.draw(altered(proof)))
        for false in (flipped(data.draw, leaf), leaf[:-1], leaf + b"\0", b""):
            with pytest.raises(LedgerError):
                verify_inclusion(root, size, index, false, proof)
        for false in (flipped(data.draw, root), root[:-1], b""):
            with pytest.raises(LedgerError):
                verify_inclusion(false, size, index, leaf, proof)

    @given(places(), st.integers(-2, 310))
    def test_another_index_fails(self, place: tuple[int, int], other: int) -> None:
        index, size = place
        assume(other != index)
        proof = inclusion_proof(index, size, NODE)
        with pytest.raises(LedgerError):
            verify_inclusion(root_of(size, NODE), size, other, LEAVES[index], proof)

    @given(places(), st.integers(-2, 1000))
    def test_another_size_fails_wherever_the_way_up_differs(self, place: tuple[int, int], other: int) -> None:
        index, size = place
        # A root says nothing of the size: entry 0 of 3 and of 4 have the same way up. Heads sign both together.
        assume(other <= index or way(index, other) != way(index, size))
        proof = inclusion_proof(index, size, NODE)
        with pytest.raises(LedgerError):
            verify_inclusion(root_of(size, NODE), other, index, LEAVES[index], proof)

    @pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 1), (0, -1), (0, MAX_SIZE + 1)])
    def test_there_is_no_such_entry(self, index: int, size: int) -> None:
        with pytest.raises(LedgerError):
            inclusion_proof(index, size, NODE)
        with pytest.raises(LedgerError):
            verify_inclusion(LEAVES[0], size, index, LEAVES[0], [])

    def test_digests_cut_elsewhere(self) -> None:
        left, right = LEAVES[:2]
        with pytest.raises(LedgerError, match="32 bytes, not 33"):  # its parent's hash would be the same
            verify_inclusion(root_of(2, NODE), 2, 0, left + right[:1], [right[1:]])


class TestConsistency:
    @given(growths())
    def test_as_defined_and_it_verifies(self, growth: tuple[int, int]) -> None:
        first, second = growth
        proof = consistency_proof(first, second, NODE)
        assert proof == subproof(first, LEAVES[:second])
        verify_consistency(first, second, root_of(first, NODE), root_of(second, NODE), proof)

    @given(growths(), st.data())
    def test_an_altered_proof_or_root_fails(self, growth: tuple[int, int], data: st.DataObject) -> None:
        first, second = growth
        old, new, proof = root_of(first, NODE), root_of(second, NODE), consistency_proof(first, second, NODE)
        for changed in (data.draw(altered(proof)), []):
            with pytest.raises(LedgerError):
                verify_consistency(first, second, old, new, changed)
        for false in (flipped(data.draw, old), new, EMPTY_ROOT, old[:-1], b""):
            with pytest.raises(LedgerError):
                verify_consistency(first, second, false, new, proof)
        for false in (flipped(data.draw, new), old, EMPTY_ROOT, new[:-1], b""):
            with pytest.raises(LedgerError):
                verify_consistency(first, second, old, false, proof)

    @given(growths(), st.integers(-2, 310))
    def test_another_first_size_fails(self, growth: tuple[int, int], other: int) -> None:
        first, second = growth
        assume(other != first)
        proof = consistency_proof(first, second, NODE)
        with pytest.raises(LedgerError):
            verify_consistency(other, second, root_of(first, NODE), root_of(second, NODE), proof)

    @given(growths(), st.integers(-2, 1000))
    def test_another_second_size_fails_wherever_the_way_up_differs(self, growth: tuple[int, int], other: int) -> None:
        first, second = growth
        assume(other < first or edge_way(first, other) != edge_way(first, second))
        proof = consistency_proof(first, second, NODE)
        with pytest.raises(LedgerError):
            verify_consistency(first, other, root_of(first, NODE), root_of(second, NODE), proof)

    @given(growths(), st.data())
    def test_a_log_whose_past_was_changed_has_no_proof(self, growth: tuple[int, int], data: st.DataObject) -> None:
        first, second = growth
        rewritten = list(LEAVES[:second])
        rewritten[data.draw(st.integers(0, first - 1))] = b"another entry, of thirty-two b.."
        node = node_source(rewritten)
        with pytest.raises(LedgerError):
            verify_consistency(
                first, second, root_of(first, NODE), root_of(second, node), consistency_proof(first, second, node)
            )

    @given(SIZES)
    def test_nothing_to_show(self, size: int) -> None:
        root = root_of(size, NODE)
        assert consistency_proof(size, size, NODE) == consistency_proof(0, size, NODE) == []
        verify_consistency(size, size, root, root, [])
        verify_consistency(0, size, EMPTY_ROOT, root, [])
        for first, beginning, proof in (
            (size, LEAVES[7], []),
            (size, root, [root]),
            (0, root, []),
            (0, EMPTY_ROOT, [root]),
        ):
            with pytest.raises(LedgerError):
                verify_consistency(first, size, beginning, root, proof)

    def test_an_empty_log_has_one_root(self) -> None:
        verify_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
        for first, second in ((LEAVES[0], LEAVES[0]), (EMPTY_ROOT, LEAVES[0]), (LEAVES[0], EMPTY_ROOT)):
            with pytest.raises(LedgerError):
                verify_consistency(0, 0, first, second, [])

    @pytest.mark.parametrize(("first", "second"), [(2, 1), (-1, 1), (0, MAX_SIZE + 1), (-2, -1)])
    def test_there_are_no_such_sizes(self, first: int, second: int) -> None:
        with pytest.raises(LedgerError):
            consistency_proof(first, second, NODE)
        with pytest.raises(LedgerError):
            verify_consistency(first, second, EMPTY_ROOT, LEAVES[0], [])


class TestPrefix:
    @given(growths())
    def test_a_path_tells_both_roots(self, growth: tuple[int, int]) -> None:
        first, second = growth
        assert prefix_roots(first, second, prefix_path(first, second, NODE)) == (
            root_of(first, NODE),
            root_of(second, NODE),
        )

    @given(growths(), st.data())
    def test_no_other_path_leads_to_the_second_root(self, growth: tuple[int, int], data: st.DataObject) -> None:
        first, second = growth
        try:
            roots = prefix_roots(first, second, data.draw(altered(prefix_path(first, second, NODE))))
        except LedgerError:
            return
        assert roots[1] != root_of(second, NODE)

    def test_digests_cut_elsewhere(self) -> None:
        left, right = LEAVES[:2]
        with pytest.raises(LedgerError, match="32 bytes, not 33"):  # it would convict who signed both roots honestly
            prefix_roots(1, 2, [left + right[:1], right[1:]])

    def test_a_stranger_cannot_keep_the_verifier_busy(self) -> None:
        with pytest.raises(LedgerError, match="too long"):
            verify_inclusion(LEAVES[0], MAX_SIZE, 5, LEAVES[5], [LEAVES[1]] * 10_000)
        with pytest.raises(LedgerError, match="too long"):
            prefix_roots(5, MAX_SIZE, [LEAVES[1]] * 10_000)

    @pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 1), (5, 5), (2, 1), (-1, 4)])
    def test_between_other_sizes_there_is_none(self, first: int, second: int) -> None:
        with pytest.raises(LedgerError):
            prefix_path(first, second, NODE)
        with pytest.raises(LedgerError):
            prefix_roots(first, second, [LEAVES[0]])
