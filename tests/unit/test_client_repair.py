"""Decisions of a repair, and a simulated chain that breaks at random moments."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import accumulate

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridllm.ids import PeerId
from gridllm.wire.messages import RowSlice
from gridllm_client.frames import frames
from gridllm_client.repair import Call, Gap, gaps_of, need_of, pause_s, stuck_hop, ways

A, B, C = PeerId("peer-aaaa"), PeerId("peer-bbbb"), PeerId("peer-cccc")


def test_a_hop_that_has_the_call_is_fed_from_its_end():
    call = Call.of(3, [RowSlice(0, 0, 5, 2, 1)], [5, 4])
    assert need_of(call, [6, 4], 3) == [6, 4]
    assert call.wanted() == [6, 4]


def test_a_hop_that_lacks_a_reordering_is_fed_that_row_whole():
    call = Call.of(3, [RowSlice(0, 1, 5, 1, 1), RowSlice(1, 1, 5, 1, 1)], [5, 5])
    assert call.valid() == [0, 5]
    assert need_of(call, [5, 5], 2) == [0, 5]
    assert need_of(call, [6, 6], 3) == [6, 6]


def test_a_cut_row_is_trusted_up_to_the_cut_only():
    call = Call.of(3, [RowSlice(0, 0, 2, 1, 1)], [9])
    assert call.valid() == [2]
    assert need_of(call, [9], 2) == [2]
    assert need_of(call, [3], 3) == [3]
    assert need_of(call, [1], 3) == [1]


def test_a_report_beyond_the_rows_is_capped():
    assert need_of(Call.of(1, [RowSlice(0, 0, 0, 4, 1)], [0, 7]), [10**6, 10**6], 1) == [4, 7]


def test_gaps():
    hops = [(A, 0, 4), (B, 4, 6), (C, 6, 9)]
    assert gaps_of([], [], 9) == [Gap(0, 0, 0, 9)]
    assert gaps_of(hops, [], 9) == []
    assert gaps_of(hops, [A, C], 9) == [Gap(0, 1, 0, 4), Gap(2, 3, 6, 9)]
    assert gaps_of(hops, [B, C], 9) == [Gap(1, 3, 4, 9)]


def test_ways_start_with_the_accused_and_end_with_leaving_both():
    found = list(ways(frozenset({A}), frozenset({C}), frozenset({B})))
    assert found == [{A, C}, {A, B}, {A}]
    assert list(ways(frozenset({A}), frozenset(), frozenset())) == [{A}]


def test_stuck_hop_is_the_last_the_call_reached():
    assert stuck_hop([(A, 5), (B, 5), (C, 4)], 5) == B
    assert stuck_hop([(A, 4), (B, 4)], 5) is None


@given(st.integers(1, 50), st.floats(0, 1, exclude_max=True))
def test_pauses_are_bounded(attempt: int, draw: float):
    assert 0 <= pause_s(attempt, draw) <= 2.0
    assert pause_s(1, draw) == 0


@dataclass
class Frame:
    epoch: int
    step: int
    slices: list[RowSlice]
    tokens: list[str]
    replay: bool


@dataclass
class SimHop:
    """A node as docs/protocol.md has it; a row's cache is the string of what was fed to it, and so is its output."""

    rows: list[str]
    need: list[int]
    epoch: int
    step: int = 0
    inbox: list[Frame] = field(default_factory=list)  # on the wire
    taken: list[Frame] = field(default_factory=list)  # in the engine

    def take(self) -> None:
        if self.inbox and (frame := self.inbox.pop(0)).epoch == self.epoch:
            self.step = max(self.step, frame.step)
            self.taken.append(frame)

    def compute(self, push) -> None:
        if not self.taken:
            return
        frame = self.taken.pop(0)
        old = list(self.rows)
        for s, text in zip(frame.slices, frame.tokens, strict=True):
            assert len(old[s.source]) >= s.position, "a gap in a cache"
            self.rows[s.row] = old[s.source][: s.position] + text
        if frame.epoch != self.epoch:
            return  # taken in before a Resume: the next hop is fed from the replay buffer instead
        if not frame.replay:
            push(Frame(self.epoch, frame.step, frame.slices, frame.tokens, False))
            return
        for s, text in zip(frame.slices, frame.tokens, strict=True):
            skipped = max(0, self.need[s.row] - s.position)
            if skipped < s.tokens:
                left = s.tokens - skipped
                piece = RowSlice(s.row, s.row, s.position + skipped, left, left)
                push(Frame(self.epoch, frame.step, [piece], [text[skipped:]], True))


class SimChain:
    """Client and hops; ``tick`` lets one of them do one thing."""

    def __init__(self, rows: int, hops: int, rng: random.Random) -> None:
        self.rng = rng
        self.epoch = 1
        self.hops = [SimHop([""] * rows, [0] * rows, 1) for _ in range(hops)]
        self.rows = [""] * rows
        self.call = Call.of(0, [], [0] * rows)
        self.result: dict[int, str] = {}

    def push(self, index: int, frame: Frame) -> None:
        if index + 1 < len(self.hops):
            self.hops[index + 1].inbox.append(frame)
            return
        for s, text in zip(frame.slices, frame.tokens, strict=True):
            keep = s.tokens if frame.replay else s.keep
            self.collect(s.row, s.position + s.tokens - keep, text[s.tokens - keep :], frame.epoch)

    def collect(self, row: int, position: int, text: str, epoch: int) -> None:
        got = self.call.got.get(row)
        end = position + len(text)
        if epoch != self.epoch or got is None or not position <= got < end or end > self.call.after[row]:
            return
        self.result[row] = self.result.get(row, "") + text[got - position :]
        self.call.got[row] = end

    def tick(self) -> None:
        index = self.rng.randrange(len(self.hops))
        hop = self.hops[index]
        if self.rng.random() < 0.5:
            hop.take()
        else:
            hop.compute(lambda frame: self.push(index, frame))

    def forward(self, slices: list[RowSlice], tokens: list[str]) -> None:
        self.call = Call.of(self.call.step + 1, slices, [len(r) for r in self.rows])
        old = list(self.rows)
        for s, text in zip(slices, tokens, strict=True):
            self.rows[s.row] = old[s.source][: s.position] + text
        self.result = {}
        letters = torch.tensor([[ord(letter)] for letter in "".join(tokens)])
        for rows, part in frames(slices, self.call.before, letters, self.rng.choice([2, 4, 128])):
            text = "".join(chr(int(letter)) for letter in part)
            ends = list(accumulate(s.tokens for s in rows))
            pieces = [text[end - s.tokens : end] for s, end in zip(rows, ends, strict=True)]
            self.hops[0].inbox.append(Frame(self.epoch, self.call.step, rows, pieces, False))

    def repair(self, lost: set[int]) -> bool:
        """One attempt; may stop half-way, as when a node is lost during it."""
        for index in lost:
            self.hops[index] = SimHop([""] * len(self.rows), [], 0)
        self.epoch += 1
        need = self.call.wanted()
        for index in reversed(range(len(self.hops))):
            hop = self.hops[index]
            if self.rng.random() < 0.1:
                return False
            hop.epoch = self.epoch
            while hop.taken:
                hop.compute(lambda frame, i=index: self.push(i, frame))
            hop.need = need
            if hop.step < self.call.step:
                hop.rows = [row[:most] for row, most in zip(hop.rows, self.call.valid(), strict=True)]
            report = [len(r) for r in hop.rows], hop.step
            for row, first in enumerate(need):
                for start in range(first, len(hop.rows[row]), 3):
                    text = hop.rows[row][start : start + 3]
                    piece = RowSlice(row, row, start, len(text), len(text))
                    self.push(index, Frame(self.epoch, hop.step, [piece], [text], True))
            need = need_of(self.call, *report)
            for _ in range(self.rng.randrange(6)):
                self.tick()
        for row, first in enumerate(need):
            for start in range(first, len(self.rows[row]), 3):
                text = self.rows[row][start : start + 3]
                piece = RowSlice(row, row, start, len(text), len(text))
                self.hops[0].inbox.append(Frame(self.epoch, self.call.step, [piece], [text], True))
        return True


def some_call(rng: random.Random, lengths: list[int]) -> list[RowSlice]:
    rows = rng.sample(range(len(lengths)), rng.randint(1, len(lengths)))
    slices = []
    for row in rows:
        source = rng.randrange(len(lengths)) if rng.random() < 0.4 else row
        cut = rng.randint(0, lengths[source]) if rng.random() < 0.4 else lengths[source]
        tokens = rng.randint(1, 5)
        slices.append(RowSlice(row, source, cut, tokens, rng.randint(1, tokens)))
    return slices


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 4))
def test_whatever_breaks_and_whenever_the_output_is_what_it_would_have_been(seed: int, rows: int, hops: int):
    rng = random.Random(seed)
    chain = SimChain(rows, hops, rng)
    for _ in range(8):
        slices = some_call(rng, [len(r) for r in chain.rows])
        tokens = ["".join(rng.choice("abcdefgh") for _ in range(s.tokens)) for s in slices]
        chain.forward(slices, tokens)
        breaks = rng.randrange(4)
        for _ in range(50_000):
            if chain.call.complete:
                break
            chain.tick()
            if breaks and rng.random() < 0.03:
                breaks -= 1
                while not chain.repair({i for i in range(hops) if rng.random() < 0.3}):
                    pass
        else:
            pytest.fail("the call never completed")
        for s in slices:
            assert chain.result[s.row] == chain.rows[s.row][-s.keep :]
    for _ in range(2000):
        chain.tick()
    for hop in chain.hops:
        for s in chain.call.slices.values():
            assert hop.rows[s.row] == chain.rows[s.row]
