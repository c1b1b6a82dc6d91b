"""What somebody tries who has read the examination's source: attacks on its clock, its sizes and its roles."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gridllm.admission.examination import stages_compute
from gridllm.admission.examination.prover import Prover
from gridllm.admission.examination.stages import Examined, Pace
from gridllm.admission.examination.stages_compute import Speed, best_of, links_to_open
from gridllm.admission.figures import Figures
from gridllm.admission.messages import Chase, Chased, Committed, Compute, Echo, Kind, Send, ShowLinks
from gridllm.admission.proof.chain import Link, Shown
from gridllm.charter.minimums import Admission, Minimums
from gridllm.errors import OutOfTurn, PeerLost, TooLarge
from tests.unit.examinations import QUICK, Room
from tests.unit.notes import until

STEP_S = 0.001
LENT_S = 0.01  # of each second, the processor is all his: burst credits, or a hundred names on one machine
OTHERS = 20.0  # times slower afterwards


def lent(steps: int) -> float:
    """How long a chain takes him."""
    alone_s = STEP_S * steps
    return min(alone_s, LENT_S) + OTHERS * max(0.0, alone_s - LENT_S)


async def decode_of(took_s: Callable[[int, int], float]) -> float:
    """Steps a second, as measured of a candidate that takes ``took_s(round, steps)``."""

    class Clocked(Speed):
        async def _round(self, kind: Kind, number: int, steps: int, expected_s: float) -> tuple[bytes, float]:
            return bytes(32), took_s(number, steps)

        async def _open(self, kind: Kind, number: int, steps: int, root: bytes) -> list[float]:
            return [0.0]

    async def done(_share: float) -> None:
        pass

    hello = SimpleNamespace(dtype="float32")
    exam = SimpleNamespace(hello=hello, renewal=False, manifest=SimpleNamespace(config={}))
    figures: dict[str, float] = {}
    sitting: Any = SimpleNamespace(
        examination=exam, pace=Pace(), figures=figures, done=done, judge=lambda finding: None
    )
    workload: Any = SimpleNamespace(blocks=1, tokens=lambda kind: 1, state_bytes=lambda kind: 1024)
    await Clocked(sitting, workload).measure("decode")
    return figures["decode_blocks_per_s"]


@pytest.mark.parametrize("dawdled_s", [0.3, 1.0, 6.0])
async def test_dawdling_while_steps_are_counted_out_gains_nothing(
    dawdled_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dawdles(number: int, steps: int) -> float:
        return lent(steps) + (dawdled_s if number in (0, 1) else 0.0)

    def dawdles_on(number: int, steps: int) -> float:
        return dawdled_s if number < 4 else lent(steps)

    fair = await decode_of(lambda number, steps: lent(steps))
    assert 1 / STEP_S / OTHERS < fair < 1.5 / STEP_S / OTHERS
    assert await decode_of(dawdles) < 1.3 * fair
    assert await decode_of(dawdles_on) < 2 * fair
    assert await decode_of(lambda number, steps: STEP_S * steps) == pytest.approx(1 / STEP_S)
    if dawdled_s == 1.0:
        monkeypatch.setattr(stages_compute, "LEAST_SHARE", 0.0)
        assert await decode_of(dawdles) > 10 * fair, "without the guard it did gain"


async def test_a_machine_that_was_disturbed_while_steps_were_counted_out_is_measured_fairly() -> None:
    assert await decode_of(lambda number, steps: STEP_S * steps * (8 if number < 6 else 1)) == pytest.approx(1 / STEP_S)


async def test_one_round_in_which_half_was_skipped_unseen_gains_little() -> None:
    def half_once(number: int, steps: int) -> float:
        return STEP_S * steps * (0.5 if number == 9 else 1.0)

    assert await decode_of(half_once) <= 1.16 / STEP_S
    assert best_of([10.0, 30.0, 10.0, 10.0, 10.0]) == pytest.approx(11.5)
    assert best_of([10.0, 30.0, 10.0, 30.0, 10.0]) == pytest.approx(13.0)
    assert best_of([10.0, 10.5, 9.0]) == 10.5
    assert best_of([10.0, 1.0, 9.5, 1.0, 9.0]) == 10.0, "half of the rounds may be disturbed"
    assert best_of([7.0]) == 7.0


def test_the_only_round_of_a_renewal_is_opened_as_often_as_the_five_of_an_examination() -> None:
    assert len(links_to_open("prefill", 20)) == 1
    assert len(links_to_open("prefill", 20, Pace().rounds)) == Pace().rounds
    assert len(links_to_open("prefill", 3, Pace().rounds)) == 3
    assert len(links_to_open("decode", 1000, Pace().rounds)) <= 64


async def test_an_upload_cannot_begin_before_it_is_asked_for() -> None:
    """Were its bytes known from the seed, they could be under way while the authority is busy with others."""

    class Early(Prover):
        async def on_send(self, question: Send) -> AsyncIterator[bytes]:
            async for part in super().on_send(Send(nbytes=question.nbytes)):
                yield part

    with pytest.raises(OutOfTurn, match="not those asked for"):
        await (await Room().open()).visit(Early)


class LateEcho(Prover):
    """Looks far away, so that the way there and back is taken off its times."""

    def on_echo(self, question: Echo) -> Echo:
        time.sleep(0.3)
        return question


async def test_late_echoes_gain_no_more_than_a_tenth() -> None:
    room = await Room().open()
    examined = await room.visit(LateEcho)
    assert examined.figures.rtt_ms >= 300
    # a round lasts 40 ms here, a tenth of which may be taken off; the rest is how times differ on a busy machine
    late, fastest = examined.figures.decode_blocks_per_s, 0.0
    for _ in range(6):
        fastest = max(fastest, (await room.visit()).figures.decode_blocks_per_s)
        if late < 2 * fastest:
            return
        late = min(late, (await room.visit(LateEcho)).figures.decode_blocks_per_s)
    pytest.fail(f"{late} with late echoes, {fastest} without")


async def test_a_chase_without_end_is_memory_that_is_not_held() -> None:
    class Endless(Prover):
        def on_chase(self, question: Chase) -> tuple[Chased, bytes]:
            while not room.outcomes and not self.stopped.wait(0.05):
                pass  # for longer than anybody's patience
            return super().on_chase(question)

    pace = {name: getattr(QUICK, name) for name in Pace.__slots__} | {"patience_s": 2.0, "chase_patience": 1.0}
    room = await Room(pace=Pace(**pace), network=False).open()
    with suppress(PeerLost):  # whether the verdict still reaches him is all the same
        await room.visit(Endless)
    await until(lambda: bool(room.outcomes))
    outcome = room.outcomes[-1]
    assert isinstance(outcome, Examined)
    assert outcome.reason == "memory_not_held", outcome.text


class WrongSizes(Prover):
    """Opens links whose states are huge, or no numbers, in documents that parse."""

    state = b""

    def on_show_links(self, question: ShowLinks) -> bytes:
        shown = msgspec.msgpack.decode(super().on_show_links(question), type=Shown)
        size = len(shown.links[0].before)
        links = [
            Link(
                self.filled(size),
                self.filled(size),
                one.reference,
                one.before_proof,
                one.after_proof,
                one.reference_proof,
            )
            for one in shown.links
        ]
        return msgspec.msgpack.encode(Shown(links))

    def filled(self, size: int) -> bytes:
        return self.state * (size // len(self.state))


class NotANumber(WrongSizes):
    state = b"\x00\x00\xc0\x7f"  # float32


class Huge(WrongSizes):
    state = b"\xff\xff\x7f\x7f"

    def filled(self, size: int) -> bytes:
        return super().filled(size) * 1000


@pytest.mark.parametrize("prover", [NotANumber, Huge])
async def test_tensors_of_no_sense_or_size_are_invented_work(prover: type[Prover]) -> None:
    room = await Room(network=False).open()
    if prover is Huge:  # more bytes than were asked for end the conversation
        with pytest.raises(TooLarge):
            await room.visit(prover)
    else:
        assert (await room.visit(prover)).reason == "work_invented"


async def test_an_offer_of_more_memory_than_exists_costs_the_authority_nothing() -> None:
    examined = await (await Room(network=False).open()).visit(memory_bytes=2**50)
    assert examined.reason == ""
    assert examined.figures.memory_bytes < 2**30, "only what the model can use is filled"


async def test_who_asks_to_relay_is_not_admitted_to_serve() -> None:
    from gridllm.admission.figures import roles_met

    admission = Admission(required=True, relay=Minimums(upload_mbit_s=0.01))
    examined = await (await Room(admission=admission).open()).visit(roles=("relay",))
    assert examined.reason == ""
    assert examined.figures.decode_blocks_per_s == 0.0
    assert "serve" not in roles_met(examined.figures, admission)
    assert "serve" not in roles_met(Figures(memory_bytes=2**40, upload_mbit_s=1e6, download_mbit_s=1e6), admission)


async def test_showing_other_links_than_asked_for_is_invented_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """He skips some steps, and opens neighbours of those that were asked for."""
    # A slow machine's chains are short, and of those every link is opened: neighbours are asked for, too.
    monkeypatch.setattr(stages_compute, "links_to_open", lambda *_: [0])
    pace = {name: getattr(QUICK, name) for name in Pace.__slots__} | {"round_s": 0.4, "first_steps": 32}

    class Chooser(Prover):
        def on_show_links(self, question: ShowLinks) -> bytes:
            steps = len(self.chain.computed.states) - 1  # type: ignore[union-attr]
            return super().on_show_links(ShowLinks(links=[(link + 1) % steps for link in question.links]))

    examined = await (await Room(pace=Pace(**pace), network=False).open()).visit(Chooser)
    assert examined.reason == "work_invented"


async def test_two_names_on_one_machine_do_not_share_one_chain() -> None:
    """One computes, the other hands in the same: roots differ by peer, so it is copied or invented."""
    room = await Room(network=False).open()
    given: list[bytes] = []

    class Giver(Prover):
        def on_compute(self, question: Compute) -> Committed:
            answer = super().on_compute(question)
            given.append(answer.root)
            return answer

    class Taker(Prover):
        def on_compute(self, question: Compute) -> Committed:
            return Committed(root=given.pop(0) if given else secrets.token_bytes(32))

    assert (await room.visit(Giver)).reason == ""
    assert (await room.visit(Taker)).reason == "copied"
