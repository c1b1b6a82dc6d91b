"""The candidate's way to a certificate: thresholds, authorities that are down or die, disagreements, renewals."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from gridllm.admission import admit as admit_module
from gridllm.admission import cards as cards_module
from gridllm.admission.admit import NotAdmittedHere, admit
from gridllm.admission.candidate_book import short
from gridllm.admission.cards import CARD_TYPE, AuthorityCard, cards_key, find_authorities, keep_card
from gridllm.admission.certificate import Certificate, verify_signatures
from gridllm.admission.figures import Figures
from gridllm.charter.board import NoticeBoard
from gridllm.charter.minimums import Admission, Minimums
from gridllm.charter.notices import AMENDMENT_TYPE, Amendment
from gridllm.errors import AdmissionError, NotAdmitted
from gridllm.identity.keys import Identity
from gridllm.identity.statement import sign_statement
from gridllm.swarm.memory import MemorySwarm
from tests.charters import MAINTAINERS
from tests.unit.authority_hall import ADMISSION, CANDIDACY, GOOD, Hall, Watching, hall, revoke, signed_charter

SIGNED = signed_charter()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_PAUSE_S", "LONGEST_PAUSE_S", "AGREE_S"):
        monkeypatch.setattr(admit_module, name, 0.05)
    monkeypatch.setattr("gridllm.admission.candidate_book.FIRST_REST_S", 0.05)
    monkeypatch.setattr("gridllm.admission.cards.PROBE_S", 2.0)


async def asks(
    made: Hall, *, swarm: MemorySwarm | None = None, watching: Watching | None = None, wait_s: float = 60, **more: Any
) -> Certificate:
    """A candidate that gets its certificate."""
    board = more.pop("board", NoticeBoard(SIGNED))
    raw = await admit(
        swarm or made.candidate(), SIGNED, board, CANDIDACY, watching or Watching(), wait_s=wait_s, **more
    )
    return verify_signatures(raw, SIGNED)


async def until_cards(made: Hall, count: int) -> None:
    swarm = made.candidate()
    while len(await find_authorities(swarm, SIGNED)) < count:  # noqa: ASYNC110 - the network is plain data
        await asyncio.sleep(0.005)


async def test_two_of_three_measure_and_the_median_counts() -> None:
    async with hall(SIGNED, 0, 1, 2) as made:
        for number, office in made.offices.items():
            office.figures = GOOD.model_copy(update={"decode_blocks_per_s": 100.0 + number})
        watching, swarm = Watching(), made.candidate()
        certificate = await asks(made, swarm=swarm, watching=watching)
        by = [number for number, office in made.offices.items() if office.examined]
        assert len(by) == 2
        assert certificate.measured_by == sorted(MAINTAINERS[number].public_key.hex() for number in by)
        assert certificate.figures.decode_blocks_per_s == 100.0 + sum(by) / 2
        assert certificate.peer == swarm.peer
        assert certificate.roles == ["serve"]
        assert certificate.expires == certificate.issued + ADMISSION.certificate_s
        assert any("(2 of 2)" in note for note in watching.notes)


async def test_the_authority_that_called_measures_first() -> None:
    async with hall(SIGNED, 0, 1, 2) as made:
        await until_cards(made, 3)
        for number in range(3):
            certificate = await asks(made, first=made.offices[number].peer)
            assert MAINTAINERS[number].public_key.hex() in certificate.measured_by


async def test_one_of_three_down_is_no_hindrance() -> None:
    async with hall(SIGNED, 0, 1, 2) as made:
        await until_cards(made, 3)
        made.kill(1)
        certificate = await asks(made)
        assert MAINTAINERS[1].public_key.hex() not in certificate.measured_by


async def test_with_two_down_a_newcomer_is_told_why_it_waits_and_goes_on_when_one_is_back() -> None:
    async with hall(SIGNED, 0) as made:
        watching = Watching()
        waiting = asyncio.create_task(asks(made, watching=watching))
        note = await watching.until("do not; trying again")
        assert note.startswith("2 of 3 authorities must measure this machine; ")
        names = " and ".join(short(MAINTAINERS[number].public_key.hex()) for number in (1, 2))
        note = await watching.until("1 answers")
        assert f"1 answers, {names} do not" in note
        assert not made.offices[0].examined, "no work for nothing"
        await made.open(2)
        assert len((await waiting).measured_by) == 2


async def test_patience_has_an_end() -> None:
    async with hall(SIGNED, 0) as made:
        watching = Watching()
        with pytest.raises(
            AdmissionError, match=r"Not admitted within 1 s: 2 of 3 authorities must.*1 answers"
        ) as told:
            await asks(made, wait_s=1, watching=watching)
        assert "again" not in str(told.value), "there is no time for it"
        assert any("trying again in" in text for text in watching.notes), "until then it was said"


async def test_an_authority_that_dies_in_the_middle_is_replaced() -> None:
    async with hall(SIGNED, 0, 1, 2) as made:
        await until_cards(made, 3)
        for office in made.offices.values():
            office.gate.clear()
        waiting = asyncio.create_task(asks(made))
        busy: list[int] = []
        while not busy:
            await asyncio.sleep(0.005)
            busy = [number for number, office in made.offices.items() if office.examined]
        made.kill(busy[0])
        for office in made.offices.values():
            office.gate.set()
        assert MAINTAINERS[busy[0]].public_key.hex() not in (await waiting).measured_by


async def test_one_that_dies_before_it_signs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hall(SIGNED, 0, 1, 2) as made:
        await until_cards(made, 3)
        swarm = made.candidate()
        honest, dead = swarm.call, []

        async def call(peer: Any, name: str, payload: bytes, **more: Any) -> bytes:
            if name == admit_module.CERTIFY_CALL and not dead:
                dead.append(peer)
                made.network.kill(peer)
            return await honest(peer, name, payload, **more)

        monkeypatch.setattr(swarm, "call", call)
        certificate = await asks(made, swarm=swarm)
        (gone,) = [number for number, office in made.offices.items() if office.peer == dead[0]]
        assert MAINTAINERS[gone].public_key.hex() not in certificate.measured_by
        alive = [office for office in made.offices.values() if office.peer != dead[0]]
        assert [len(office.examined) for office in alive] == [1, 1], "what was measured before is used"


async def test_not_admitted() -> None:
    async with hall(SIGNED, 0, 1) as made:
        for office in made.offices.values():
            office.figures, office.reason = Figures(decode_blocks_per_s=3.0), "too_slow"
        with pytest.raises(NotAdmittedHere, match=r"Because\.") as caught:
            await asks(made)
        assert (caught.value.reason, caught.value.figures) == ("too_slow", made.offices[0].figures)
        assert sum(len(office.examined) for office in made.offices.values()) == 1


@pytest.mark.parametrize("liar", [0, 1, 2])
async def test_one_of_three_that_says_no_denies_nobody(liar: int) -> None:
    async with hall(SIGNED, 0, 1, 2) as made:
        made.offices[liar].figures, made.offices[liar].reason = Figures(), "work_invented"
        await until_cards(made, 3)
        for _ in range(4):  # whoever is asked first
            assert MAINTAINERS[liar].public_key.hex() not in (await asks(made)).measured_by
        assert len(made.offices[liar].examined) <= 4


async def test_one_of_three_that_calls_everybody_revoked_denies_nobody() -> None:
    async with hall(SIGNED, 0, 1, 2) as made:
        await until_cards(made, 3)
        for _ in range(4):
            swarm = made.candidate()
            made.offices[0].board.add(revoke(SIGNED, swarm.peer))
            await asks(made, swarm=swarm)


async def test_one_of_three_that_signs_no_certificate_denies_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hall(SIGNED, 0, 1, 2) as made:
        await until_cards(made, 3)
        swarm = made.candidate()
        honest = swarm.call

        async def call(peer: Any, name: str, payload: bytes, **more: Any) -> bytes:
            if name == admit_module.CERTIFY_CALL and peer == made.offices[1].peer:
                raise NotAdmitted("I do not like it.")
            return await honest(peer, name, payload, **more)

        monkeypatch.setattr(swarm, "call", call)
        for _ in range(4):
            assert MAINTAINERS[1].public_key.hex() not in (await asks(made, swarm=swarm)).measured_by


async def test_two_of_three_that_say_no_deny() -> None:
    async with hall(SIGNED, 0, 1, 2) as made:
        await until_cards(made, 3)
        for number in (0, 2):
            made.offices[number].figures, made.offices[number].reason = Figures(decode_blocks_per_s=3.0), "too_slow"
        with pytest.raises(NotAdmittedHere, match=r"Because\.") as caught:
            await asks(made)
        assert caught.value.reason == "too_slow"
        assert [len(made.offices[number].examined) for number in (0, 2)] == [1, 1]


async def test_authorities_that_measured_different_machines_do_not_sign() -> None:
    async with hall(SIGNED, 0, 1) as made:
        made.offices[1].figures = GOOD.model_copy(update={"decode_blocks_per_s": 5000.0})
        watching = Watching()
        with pytest.raises(NotAdmittedHere, match="too far apart") as caught:
            await asks(made, watching=watching)
        assert caught.value.reason == "disagreement"


async def test_amended_minimums_that_reached_only_one_authority() -> None:
    async with hall(SIGNED, 0, 1) as made:
        amended = Admission(required=True, certificate_s=7200, serve=Minimums(decode_blocks_per_s=20.0))
        amendment = Amendment(grid=SIGNED.grid, serial=1, issued=int(time.time()), admission=amended)
        raw = sign_statement(amendment, AMENDMENT_TYPE, MAINTAINERS)
        made.offices[0].board.add(raw)
        watching = Watching()
        waiting = asyncio.create_task(asks(made, watching=watching))
        await watching.until("do not agree yet")
        made.offices[1].board.add(raw)
        certificate = await waiting
        assert certificate.expires == certificate.issued + 7200
        assert [len(office.examined) for office in made.offices.values()] == [1, 1]


async def test_a_renewal_says_so_and_a_busy_node_keeps_its_figures() -> None:
    async with hall(SIGNED, 0, 1) as made:
        swarm = made.candidate()
        raw = await admit(swarm, SIGNED, NoticeBoard(SIGNED), CANDIDACY, Watching(), wait_s=60)
        for office in made.offices.values():
            office.figures = GOOD.model_copy(
                update={"decode_blocks_per_s": 60.0, "batch_blocks_per_s": 100.0, "memory_bytes": 0}
            )
        certificate = await asks(made, swarm=swarm, certificate=raw)
        assert [office.examined[-1].renewal for office in made.offices.values()] == [True, True]
        assert [office.examined[-1].held_bytes for office in made.offices.values()] == [2000, 2000]
        assert certificate.figures.memory_bytes == 2000
        assert certificate.figures.decode_blocks_per_s == 90.0  # what a renewal keeps of the old one
        assert certificate.figures.batch_blocks_per_s == 100.0  # under half of 300


async def test_another_ones_certificate_renews_nothing() -> None:
    async with hall(SIGNED, 0, 1) as made:
        raw = await admit(made.candidate(), SIGNED, NoticeBoard(SIGNED), CANDIDACY, Watching(), wait_s=60)
        await asks(made, certificate=raw)
        assert not any(office.examined[-1].renewal for office in made.offices.values())


async def test_a_revoked_machine_asks_nobody() -> None:
    async with hall(SIGNED, 0, 1) as made:
        swarm, board = made.candidate(), NoticeBoard(SIGNED)
        board.add(revoke(SIGNED, swarm.peer))
        with pytest.raises(NotAdmittedHere, match=r"revoked.*a test"):
            await asks(made, swarm=swarm, board=board)
        for office in made.offices.values():
            office.board.add(revoke(SIGNED, swarm.peer))
        with pytest.raises(NotAdmittedHere, match=r"revoked.*a test"):
            await asks(made, swarm=swarm)  # it has not heard, and is told


async def test_a_clock_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = time.time() + 3600
    async with hall(SIGNED, 0, 1, 2, clock=lambda: ahead) as made:
        with pytest.raises(NotAdmittedHere, match=r"clock says .* behind") as caught:
            await asks(made)
        assert caught.value.reason == "clock_skew"


async def test_one_authority_with_a_wrong_clock_is_passed_over() -> None:
    async with hall(SIGNED, 0, 1) as made:
        await made.open(2, clock=lambda: time.time() + 3600)
        certificate = await asks(made)
        assert MAINTAINERS[2].public_key.hex() not in certificate.measured_by


class TestCards:
    async def test_forged_and_borrowed_ones_are_left_out(self) -> None:
        async with hall(SIGNED, 0) as made:
            await until_cards(made, 1)
            stranger, key = made.candidate(), cards_key(SIGNED.grid)
            (genuine,) = (await stranger.fetch(key)).values()
            now = int(time.time())
            fields = {"grid": SIGNED.grid, "peer": stranger.peer, "addresses": [], "issued": now, "expires": now + 60}
            forged = AuthorityCard(maintainer=MAINTAINERS[1].public_key.hex(), **fields)
            values = (
                genuine.value,  # another peer's
                sign_statement(forged, CARD_TYPE, [Identity.ephemeral()]),
                sign_statement(forged, "application/x", [MAINTAINERS[1]]),
                b"rubbish",
            )
            for number, value in enumerate(values):
                assert await stranger.store(key, "authority", value, expires_at=time.time() + 60 + number)
                found = await find_authorities(stranger, SIGNED)
                assert [card.peer for card in found] == [made.offices[0].peer]

    async def test_any_number_of_strangers_records_hide_none(self) -> None:
        async with hall(SIGNED) as made:
            for _ in range(300):
                stranger = made.candidate()
                await stranger.store(cards_key(SIGNED.grid), "authority", b"rubbish", expires_at=time.time() + 60)
            office = await made.open(0)
            await until_cards(made, 1)
            assert [card.peer for card in await find_authorities(made.candidate(), SIGNED)] == [office.peer]

    async def test_it_is_announced_again_after_a_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with hall(SIGNED) as made:
            authority, faults = made.candidate(), iter(range(2))
            store = authority.store

            async def stores(*what: Any, **more: Any) -> bool:
                if next(faults, None) is not None:
                    raise RuntimeError("a defect")
                return await store(*what, **more)

            monkeypatch.setattr(authority, "store", stores)
            keeping = asyncio.create_task(keep_card(authority, SIGNED.grid, MAINTAINERS[0], every_s=0.01))
            await until_cards(made, 1)
            keeping.cancel()

    async def test_what_fails_at_the_start_alone_is_no_fault_to_tell(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with hall(SIGNED) as made:
            authority, asked = made.candidate(), 0

            async def refuses(*what: Any, **more: Any) -> bool:
                nonlocal asked
                asked += 1
                return False

            monkeypatch.setattr(authority, "store", refuses)
            for quiet_s, told in ((60.0, False), (0.0, True)):
                monkeypatch.setattr(cards_module, "QUIET_S", quiet_s)
                asked = 0
                keeping = asyncio.create_task(keep_card(authority, SIGNED.grid, MAINTAINERS[0], every_s=0.01))
                async with asyncio.timeout(60):
                    while asked < 3:  # noqa: ASYNC110
                        await asyncio.sleep(0.005)
                keeping.cancel()
                assert ("could not announce itself" in caplog.text) is told

    async def test_an_expired_one_does_not_count(self) -> None:
        async with hall(SIGNED, 0) as made:
            await until_cards(made, 1)
            later = time.time() + 3600
            assert await find_authorities(made.candidate(), SIGNED, clock=lambda: later) == []


async def test_it_can_be_given_up() -> None:
    async with hall(SIGNED, 0, 1) as made:
        for office in made.offices.values():
            office.gate.clear()
        waiting = asyncio.create_task(asks(made))
        while not any(office.examined for office in made.offices.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        for office in made.offices.values():
            office.gate.set()
        await asks(made)
