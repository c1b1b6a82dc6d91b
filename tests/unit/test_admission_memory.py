"""The memory proof: an honest holder passes, and holding half means making pages again without end."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from gridllm.admission.proof import memory_store
from gridllm.admission.proof.memory import HeldMemory, page_count, shown_bytes
from gridllm.admission.proof.memory_check import page_root
from gridllm.admission.proof.memory_store import DevicePages, allocate
from gridllm.admission.proof.merkle import MerkleTree
from gridllm.admission.proof.pages import LANE_PAGES, PAGE_BYTES, PAGE_CHUNKS, Lane
from gridllm.errors import AdmissionError
from gridllm.merkle import leaf_digest
from tests.unit.admission_memory import NONCE, SEED, HalfHolder, Proof, prove


def test_the_same_seed_fills_the_same_memory_and_the_same_nonce_chases_the_same_way() -> None:
    first, second = prove(HeldMemory(SEED, 4 * PAGE_BYTES)), prove(HeldMemory(SEED, 4 * PAGE_BYTES, threads=3))
    assert first == second
    # The fixed words of the protocol: machines of different versions must fill and chase alike.
    assert first.root.hex() == "188c59226970966c89a1d47423a50d0503b29673e2715c14b7dff261f089b4de"
    assert first.checkpoints[-8:].hex() == "f5635b4189b5b827"


def test_another_seed_fills_another_memory_and_another_nonce_chases_another_way() -> None:
    held = HeldMemory(SEED, PAGE_BYTES)
    assert held.fill() != HeldMemory(b"t" * 32, PAGE_BYTES).fill()
    assert held.chase(NONCE, 50) != held.chase(b"m" * 32, 50)


def test_an_honest_holder_passes() -> None:
    proof = prove(HeldMemory(SEED, 4 * PAGE_BYTES))
    proof.verify()
    assert len(proof.document) <= shown_bytes(len(proof.pages), len(proof.segments))


def test_sizes_are_rounded_up_to_pages_and_one_page_is_enough() -> None:
    assert [page_count(n) for n in (1, PAGE_BYTES, PAGE_BYTES + 1)] == [1, 1, 2]
    prove(HeldMemory(SEED, 1), Proof(b"", b"", b"", nbytes=1, pages=(0,), segments=(2,))).verify()
    prove(HeldMemory(SEED, PAGE_BYTES + 1), Proof(b"", b"", b"", nbytes=PAGE_BYTES + 1, pages=(1, 1))).verify()


def test_lanes_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pages", "memory", "memory_check"):
        monkeypatch.setattr(f"gridllm.admission.proof.{module}.LANE_PAGES", 3)
    asked = Proof(b"", b"", b"", nbytes=8 * PAGE_BYTES, pages=(2, 3, 4, 7))
    proof = prove(HeldMemory(SEED, 8 * PAGE_BYTES, threads=2), asked)
    assert proof.root == prove(HeldMemory(SEED, 8 * PAGE_BYTES), asked).root
    proof.verify()


def test_a_page_is_made_of_earlier_chunks_of_its_own_lane() -> None:
    lane = Lane(SEED, 2)
    sources = lane.sources(2 * LANE_PAGES + 5, b"t" * 16)
    assert sources.shape == (PAGE_CHUNKS,)
    assert sources.min() >= 2 * LANE_PAGES * PAGE_CHUNKS
    assert sources.max() < (2 * LANE_PAGES + 5) * PAGE_CHUNKS
    assert sources.tolist() != lane.sources(2 * LANE_PAGES + 5, b"u" * 16).tolist()


def test_every_block_of_a_page_holds_one_block_of_every_chunk_it_is_made_of() -> None:
    lane = Lane(SEED, 0)
    first = lane.first()
    plain = lane.fold(first).reshape(-1, 2).copy()  # by blocks of 16 bytes
    for chunk in range(PAGE_CHUNKS):
        changed = first.copy()
        changed[chunk] ^= np.uint64(1)
        assert (lane.fold(changed).reshape(-1, 2) != plain).all()
    for word in (0, 100, 511):
        changed = first.copy()
        changed[17, word] ^= np.uint64(1)
        assert (lane.fold(changed).reshape(-1, 2) != plain).any(axis=1).sum() == 64


def test_the_tree_above_pages_is_the_tree_above_chunks() -> None:
    lane = Lane(SEED, 0)
    first = lane.first()
    pages = [first, lane.make(first, b"t" * 16).copy(), lane.make(first, b"u" * 16).copy()]
    tree = MerkleTree([leaf_digest(chunk.tobytes()) for page in pages for chunk in page])
    assert tree.root == MerkleTree([page_root(page) for page in pages]).root


def test_progress_rises_to_one() -> None:
    heard: list[float] = []
    HeldMemory(SEED, 6 * PAGE_BYTES, threads=2).fill(heard.append)
    assert heard == sorted(heard)
    assert len(heard) == 6
    assert heard[-1] == 1.0


def test_a_checkpoint_cannot_be_had_without_the_earlier_one_that_its_walk_chooses() -> None:
    proof = prove(HeldMemory(SEED, 4 * PAGE_BYTES), Proof(b"", b"", b"", steps=1600, pages=(), segments=(50,)))
    proof.verify()
    felt = []
    for earlier in range(1, 101):
        at = 8 * (earlier - 1)  # the start is not sent
        other = proof.checkpoints[:at] + bytes(8) + proof.checkpoints[at + 8 :]
        try:
            proof.verify(checkpoints=other)
        except AdmissionError:
            felt.append(earlier)
    assert felt == [22, 50, 51]  # 50 and 51 are its own two ends


def test_a_holder_of_half_makes_pages_again_without_end() -> None:
    steps, pages = 48, 32
    honest = HeldMemory(SEED, pages * PAGE_BYTES)
    honest.fill()
    cheater = HalfHolder(SEED, pages * PAGE_BYTES)
    cheater.fill()
    cheater.keep_half()
    assert cheater.chase(NONCE, steps) == honest.chase(NONCE, steps)
    # Half of the words are missing, and each needs nearly all of the missing pages before its own: 4 a step here,
    # 119 a step in a memory of 1 GiB.
    assert cheater.made / steps > 2


def test_memory_that_cannot_be_had_is_told_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AdmissionError, match="1073741824 MiB of memory on cpu .* could not be had"):
        HeldMemory(SEED, 2**50).fill()

    def full(pages: int) -> None:
        raise MemoryError("Unable to allocate")

    monkeypatch.setattr(memory_store, "HostPages", full)
    with pytest.raises(AdmissionError, match="1 MiB of memory on cpu .* could not be had.*Unable to allocate"):
        HeldMemory(SEED, 2**20).fill()


@pytest.mark.parametrize("device", ["meta?", "cuda:77"])
def test_a_device_that_is_not_there_is_told(device: str) -> None:
    with pytest.raises(AdmissionError, match="could not be had"):
        allocate(1, device)


def test_pages_on_a_torch_device_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = prove(HeldMemory(SEED, 4 * PAGE_BYTES))
    monkeypatch.setattr(memory_store, "HostPages", lambda pages: DevicePages(pages, "cpu"))
    assert prove(HeldMemory(SEED, 4 * PAGE_BYTES)) == expected


def test_nothing_is_shown_or_chased_before_its_time() -> None:
    held = HeldMemory(SEED, PAGE_BYTES)
    with pytest.raises(AdmissionError, match="No memory is filled"):
        held.chase(NONCE, 16)
    held.fill()
    with pytest.raises(AdmissionError, match="before it was chased"):
        held.show([0], [])
    held.chase(NONCE, 16)
    for pages, segments in (([1], []), ([], [1]), ([-1], []), ([0] * 65, [])):
        with pytest.raises(AdmissionError, match="to (open|be opened)"):
            held.show(pages, segments)
    for steps in (0, -1, 2**20 + 1):
        with pytest.raises(AdmissionError, match="A chase has 1 to"):
            held.chase(NONCE, steps)
    held.release()
    with pytest.raises(AdmissionError, match="released"):
        held.chase(NONCE, 16)


def test_a_fill_ends_when_its_memory_is_released() -> None:
    held = HeldMemory(SEED, 40 * PAGE_BYTES)
    releasing = threading.Event()

    def progress(done: float) -> None:
        held.release()
        releasing.set()

    with pytest.raises(AdmissionError, match="released while"):
        held.fill(progress)
    assert releasing.is_set()


@pytest.mark.parametrize("nbytes", [0, -1, 2**50 + 1])
def test_no_such_amount(nbytes: int) -> None:
    with pytest.raises(AdmissionError, match="cannot be proven"):
        HeldMemory(SEED, nbytes)
