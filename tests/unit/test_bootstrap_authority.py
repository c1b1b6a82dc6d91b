"""The authority as candidates meet it: entrance, verdicts, garbage, silence, faults of its own."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from gridllm.admission.certificate import verify_measurement
from gridllm.admission.examination.stages import Examination, Examined
from gridllm.admission.figures import Figures
from gridllm.admission.messages import Echo, Started, Verdict, encode
from gridllm.charter.fetch import CHARTER_CALL
from gridllm.errors import (
    ClockSkew,
    Full,
    GridError,
    Malformed,
    NodeFault,
    Outdated,
    OutOfTurn,
    Refusal,
    Revoked,
    TooSoon,
    WrongGrid,
    WrongModel,
)
from gridllm.swarm.interface import Stream
from gridllm_bootstrap.limits import Limits
from gridllm_bootstrap.measuring import authority as authority_module
from tests.unit.authority_hall import GOOD, Hall, hall, heard, hello, revoke, say, signed_charter

SIGNED = signed_charter()


async def verdict_of(made: Hall, number: int = 0) -> Verdict:
    swarm = made.candidate()
    conversation = await say(swarm, made.offices[number], encode(hello(SIGNED, swarm)))
    verdict = await heard(conversation)
    await conversation.stream.close()
    assert isinstance(verdict, Verdict)
    return verdict


async def test_a_machine_that_is_fit_gets_a_signed_measurement() -> None:
    async with hall(SIGNED, 0) as made:
        verdict = await verdict_of(made)
        assert verdict.admitted, verdict.text
        measurement = verify_measurement(verdict.measurement, SIGNED)
        office = made.offices[0]
        assert measurement.peer == office.examined[0].peer
        assert measurement.figures == GOOD == Figures.model_validate_json(verdict.figures)
        assert office.kinds() == ["examining", "admitted"]


@pytest.mark.parametrize(("reason", "figures"), [("steps_skipped", GOOD), ("", Figures(decode_blocks_per_s=1.0))])
async def test_one_that_is_not_gets_none(reason: str, figures: Figures) -> None:
    async with hall(SIGNED, 0) as made:
        made.offices[0].reason, made.offices[0].figures = reason, figures
        verdict = await verdict_of(made)
        assert (verdict.admitted, verdict.measurement, verdict.reason) == (False, b"", reason or "short")
        assert made.offices[0].kinds() == ["examining", "failed"]


@pytest.mark.parametrize(
    ("changes", "refusal", "says"),
    [
        ({"grid": "0" * 64}, WrongGrid, "not of 0000"),
        ({"model": "0" * 64}, WrongModel, "serves no model"),
        ({"dtype": "int4"}, WrongModel, "'int4'"),
        ({"roles": ["king"]}, Malformed, "'king'"),
        ({"version": "0.0.0"}, Outdated, "0.0.1 or newer"),
        ({"version": "²"}, Outdated, "0.0.1 or newer"),
    ],
)
async def test_the_entrance(changes: dict[str, object], refusal: type[Refusal], says: str) -> None:
    await turned_away(changes, refusal, says)


@pytest.mark.parametrize(("off_s", "says"), [(900.0, r"1[45]\.\d minutes ahead"), (-900.0, "behind")])
async def test_a_clock_that_is_far_off(off_s: float, says: str) -> None:
    await turned_away({"clock_s": time.time() + off_s}, ClockSkew, says)


async def turned_away(changes: dict[str, object], refusal: type[Refusal], says: str) -> None:
    """A Hello with these changes is refused before it is examined, and the next one is not."""
    async with hall(SIGNED, 0) as made:
        swarm = made.candidate()
        conversation = await say(swarm, made.offices[0], encode(hello(SIGNED, swarm, **changes)))
        with pytest.raises(refusal, match=says):
            await heard(conversation)
        assert not made.offices[0].examined
        assert (await verdict_of(made)).admitted


async def test_a_few_minutes_of_skew_are_tolerated() -> None:
    async with hall(SIGNED, 0) as made:
        swarm = made.candidate()
        said = hello(SIGNED, swarm, clock_s=time.time() + 240)
        verdict = await heard(await say(swarm, made.offices[0], encode(said)))
        assert isinstance(verdict, Verdict)


async def test_a_revoked_machine_waits_until_it_may_come_again() -> None:
    async with hall(SIGNED, 0) as made:
        office, swarm = made.offices[0], made.candidate()
        office.board.add(revoke(SIGNED, swarm.peer))
        with pytest.raises(Revoked, match="a test"):
            await heard(await say(swarm, office, encode(hello(SIGNED, swarm))))
        other = made.candidate()
        office.board.add(revoke(SIGNED, other.peer, ago_s=100, for_s=50))
        assert isinstance(await heard(await say(other, office, encode(hello(SIGNED, other)))), Verdict)


async def test_a_revocation_counts_during_the_examination() -> None:
    async with hall(SIGNED, 0) as made:
        office, swarm = made.offices[0], made.candidate()
        office.gate.clear()
        conversation = await say(swarm, office, encode(hello(SIGNED, swarm)))
        await office.until("examining")
        office.board.add(revoke(SIGNED, swarm.peer))
        office.gate.set()
        with pytest.raises(Revoked):
            await heard(conversation)


async def test_who_comes_too_often_waits_and_others_do_not() -> None:
    async with hall(SIGNED, 0, limits=Limits(tries=2)) as made:
        office, swarm = made.offices[0], made.candidate()
        wrong = encode(hello(SIGNED, swarm, dtype="int4"))
        for _ in range(2):  # refused attempts count
            with pytest.raises(WrongModel):
                await heard(await say(swarm, office, wrong))
        with pytest.raises(TooSoon, match="try again in"):
            await heard(await say(swarm, office, encode(hello(SIGNED, swarm))))
        assert (await verdict_of(made)).admitted


async def test_no_attempt_comes_back_to_a_candidate_that_says_it_is_full_itself() -> None:
    async def cut_short(_stream: Stream, _examination: Examination) -> Examined:
        raise Full("These are the candidate's words: conversations raise what the other side refuses with.")

    async with hall(SIGNED, 0, limits=Limits(tries=2)) as made:
        office, swarm = made.offices[0], made.candidate()
        office.examine = cut_short  # type: ignore[method-assign]
        for expected in (Full, Full, TooSoon):
            with pytest.raises(expected):
                await heard(await say(swarm, office, encode(hello(SIGNED, swarm))))


class TestGarbage:
    async def test_each_kind_is_named_and_the_authority_goes_on(self) -> None:
        rng = random.Random(3)
        async with hall(SIGNED, 0) as made:
            office = made.offices[0]
            for _ in range(30):
                with pytest.raises(Malformed):
                    await heard(await say(made.candidate(), office, rng.randbytes(rng.randrange(1, 200))))
            for message in (Started(), Echo(nonce=1)):
                with pytest.raises(OutOfTurn, match="begins with Hello"):
                    await heard(await say(made.candidate(), office, encode(message)))
            assert (await verdict_of(made)).admitted
            assert office.kinds().count("refused") == 32

    async def test_a_body_beyond_the_cap(self) -> None:
        async with hall(SIGNED, 0) as made:
            swarm = made.candidate()
            said = encode(hello(SIGNED, swarm))
            with pytest.raises(GridError, match="exceeds the caps|closed the stream"):
                await heard(await say(swarm, made.offices[0], said, body=bytes(2 << 20)))
            assert (await verdict_of(made)).admitted

    async def test_silence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(authority_module, "HELLO_S", 0.05)
        async with hall(SIGNED, 0) as made:
            await say(made.candidate(), made.offices[0])
            await made.offices[0].until("left")
            assert (await verdict_of(made)).admitted

    async def test_talking_in_the_queue(self) -> None:
        async with hall(SIGNED, 0, at_once=1) as made:
            office, first, second = made.offices[0], made.candidate(), made.candidate()
            office.gate.clear()
            kept = await say(first, office, encode(hello(SIGNED, first)))
            await office.until("examining")
            conversation = await say(second, office, encode(hello(SIGNED, second)), encode(Started()))
            with pytest.raises(OutOfTurn, match="waits says nothing"):
                while True:
                    await heard(conversation)
            office.gate.set()
            assert isinstance(await heard(kept), Verdict)

    async def test_many_streams_of_one_peer(self) -> None:
        async with hall(SIGNED, 0) as made:
            office, swarm = made.offices[0], made.candidate()
            office.gate.clear()
            for _ in range(2):
                await say(swarm, office, encode(hello(SIGNED, swarm)))
            with pytest.raises(Refusal, match="too many"):
                await heard(await say(swarm, office, encode(hello(SIGNED, swarm))))


async def test_a_fault_of_its_own_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hall(SIGNED, 0) as made:
        office, swarm = made.offices[0], made.candidate()

        async def broken(*_: object) -> None:
            raise ZeroDivisionError

        good = office.examine
        monkeypatch.setattr(office, "examine", broken)
        with pytest.raises(NodeFault, match="Try another"):
            await heard(await say(swarm, office, encode(hello(SIGNED, swarm))))
        monkeypatch.setattr(office, "examine", good)
        assert (await verdict_of(made)).admitted


async def test_an_examination_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority_module, "EXAMINATION_S", 0.05)
    async with hall(SIGNED, 0) as made:
        made.offices[0].gate.clear()
        verdict = await verdict_of(made)
        assert (verdict.admitted, verdict.reason) == (False, "silent")


async def test_others_are_answered_while_a_crowd_waits() -> None:
    async with hall(SIGNED, 0) as made:
        office = made.offices[0]
        office.gate.clear()
        for _ in range(20):
            swarm = made.candidate()
            await say(swarm, office, encode(hello(SIGNED, swarm)))
        while office.authority.crowd != (2, 18):  # noqa: ASYNC110 - a property
            await asyncio.sleep(0.005)
        assert await made.candidate().call(office.peer, CHARTER_CALL, b"", timeout_s=30.0) == SIGNED.raw
        office.gate.set()
        await office.until("admitted", 20)
