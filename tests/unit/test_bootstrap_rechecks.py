"""From suspicion to consequence: who is called, what is decided, and what the maintainers' key signs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gridllm.admission.certificate import Certificate
from gridllm.admission.figures import Figures
from gridllm.admission.messages import RECHECK_CALL
from gridllm.admission.renewing import renewed
from gridllm.charter.board import NoticeBoard
from gridllm.charter.minimums import DAY_S
from gridllm.charter.notices import Revocation
from gridllm.errors import CertificateError, TooSoon
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot, PeerId
from gridllm.swarm.memory import MemoryNetwork
from gridllm_bootstrap.fitness.fitness import Suspicion
from gridllm_bootstrap.fitness.outcomes import FitnessEvent, decide
from gridllm_bootstrap.fitness.rechecks import Rechecks
from gridllm_bootstrap.paper import read_paper
from tests.certificates import certificate, certified, closed_grid, gate_of
from tests.charters import MAINTAINERS

NODE = Identity.ephemeral()
ONE_SIGNS = closed_grid(threshold=1)
TWO_SIGN = closed_grid()
THEN = int(time.time()) - 1000
FAST = Figures(decode_blocks_per_s=100.0, batch_blocks_per_s=200.0, prefill_blocks_per_s=900.0)
SUSPICION = Suspicion(NODE.peer, 0.3, 20, 5)


def old(**changes: Any) -> Certificate:
    return certificate(ONE_SIGNS, NODE.peer, **{"issued": THEN, "figures": FAST, "roles": ["serve", "relay"]} | changes)


def scaled(factor: float) -> Figures:
    return Figures(**{name: factor * getattr(FAST, name) for name in ("decode_blocks_per_s", "batch_blocks_per_s")})


@pytest.mark.parametrize(
    ("new", "kind", "voids"),
    [
        ({}, "confirmed", False),
        ({"figures": FAST.model_copy(update={"decode_blocks_per_s": 95.0})}, "confirmed", False),
        ({"figures": FAST.model_copy(update={"decode_blocks_per_s": 30.0})}, "lowered", True),
        ({"figures": FAST.model_copy(update={"batch_blocks_per_s": 50.0})}, "lowered", True),
        ({"figures": scaled(0.1), "roles": ["relay"]}, "demoted", True),
        ({"figures": scaled(1.0), "roles": ["relay"]}, "demoted", True),
    ],
)
def test_a_node_that_came_keeps_what_it_reached(new: dict[str, Any], kind: str, voids: bool) -> None:
    outcome = decide(old(), old(**{"issued": THEN + 900} | new), "", false=False, serving=True)
    assert (outcome.kind, outcome.voids, outcome.bar_s) == (kind, voids, 0)


def test_only_a_node_that_cheats_is_barred() -> None:
    cheats = decide(old(), None, "invented", false=True, serving=True)
    slow = decide(old(), None, "too slow for any role", false=False, serving=True)
    absent = decide(old(), None, "", false=False, serving=True)
    gone = decide(old(), None, "", false=False, serving=False)
    assert [(one.kind, one.bar_s) for one in (cheats, slow, absent, gone)] == [
        ("let_go", DAY_S),
        ("voided", 0),
        ("voided", 0),
        ("gone", 0),
    ]
    assert all(one.voids for one in (cheats, slow, absent, gone))
    assert "too slow for any role" in slow.why


class Stage:
    """An authority's rechecks and the node they concern, on a network in memory."""

    def __init__(self, signed: Any, **changes: Any) -> None:
        self.network = MemoryNetwork()
        self.node = self.network.join(NODE)
        self.board = NoticeBoard(signed)
        self.events: list[FitnessEvent] = []
        self.called = 0
        self.listed: dict[PeerId, Certificate] = {NODE.peer: old()}
        self.present = False
        bounds: dict[str, Any] = {"come_s": 5.0, "call_every_s": 0.02, "void_after_s": 0.05}
        self.rechecks = Rechecks(
            self.network.join(Identity.ephemeral()),
            signed,
            MAINTAINERS[0],
            self.board,
            self,
            tell=self.events.append,
            present=lambda _: self.present,
            **bounds | changes,
        )

    async def certificates(self, model: ModelRoot) -> Mapping[PeerId, Certificate]:
        return self.listed

    async def answer(self, peer: PeerId, payload: bytes) -> bytes:
        self.called += 1
        return b""

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    async def until(self, *kinds: str) -> None:
        async with asyncio.timeout(60):
            while self.kinds != list(kinds) or self.rechecks.strict(NODE.peer):  # noqa: ASYNC110 - plain data
                await asyncio.sleep(0.01)


@asynccontextmanager
async def stage(signed: Any = ONE_SIGNS, **changes: Any) -> AsyncIterator[Stage]:
    made = Stage(signed, **changes)
    await made.node.serve_calls(RECHECK_CALL, made.answer)
    running = asyncio.create_task(made.rechecks.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def heard(made: Stage) -> None:
    async with asyncio.timeout(60):
        while not made.called:  # noqa: ASYNC110 - plain data
            await asyncio.sleep(0.01)


async def test_a_slower_node_is_recertified_and_its_better_certificate_voided() -> None:
    async with stage() as made:
        assert not made.rechecks.strict(NODE.peer)
        made.rechecks.suspect(SUSPICION, old())
        await heard(made)
        assert made.rechecks.strict(NODE.peer)
        now = int(time.time())
        new = old(issued=now, expires=now + 3600, figures=scaled(0.2))
        made.rechecks.certified(new)
        await made.until("suspect", "lowered")
        assert made.called == 1
        gate = gate_of(ONE_SIGNS, *made.board.raws())
        with pytest.raises(CertificateError) as raised:
            gate.check(certified(ONE_SIGNS, NODE.peer, issued=THEN, figures=FAST), NODE.peer)
        assert raised.value.rule == "revoked"
        mine = certified(ONE_SIGNS, NODE.peer, issued=now, figures=new.figures)
        assert gate.check(mine, NODE.peer) is not None
        revocation = made.board.revocation(NODE.peer)
        assert revocation is not None
        assert revocation.until < now - 300  # a clock that is minutes behind sees no bar either


async def test_the_old_certificate_counts_until_the_new_one_is_known() -> None:
    async with stage(void_after_s=3.0) as made:
        made.rechecks.suspect(SUSPICION, old())
        await heard(made)
        made.rechecks.certified(old(issued=int(time.time()), figures=scaled(0.2)))
        await asyncio.sleep(0.1)
        assert made.board.revocation(NODE.peer) is None
        await made.until("suspect", "lowered")
        assert made.board.revocation(NODE.peer) is not None


async def test_an_honest_node_keeps_everything() -> None:
    async with stage() as made:
        made.rechecks.suspect(SUSPICION, old())
        await heard(made)
        made.rechecks.certified(old(issued=int(time.time())))
        await made.until("suspect", "confirmed")
        assert made.board.revocation(NODE.peer) is None


async def test_a_node_that_fails_is_let_go_with_the_reason() -> None:
    async with stage() as made:
        made.rechecks.suspect(SUSPICION, old())
        await heard(made)
        made.rechecks.not_admitted(NODE.peer, "It holds none of the memory it claims.", final=True)
        await made.until("suspect", "let_go")
        revocation = made.board.revocation(NODE.peer)
        assert revocation is not None
        assert revocation.until - revocation.issued == DAY_S
        assert "none of the memory" in revocation.why


async def test_a_node_that_was_only_slow_may_try_again_while_there_is_time() -> None:
    async with stage() as made:
        made.rechecks.suspect(SUSPICION, old())
        await heard(made)
        made.rechecks.not_admitted(NODE.peer, "Too slow.", final=False)
        await asyncio.sleep(0.1)
        assert made.kinds == ["suspect"]
        made.rechecks.certified(old(issued=int(time.time())))
        await made.until("suspect", "confirmed")


async def test_a_node_that_is_slow_every_time_loses_its_certificate_and_is_not_barred() -> None:
    async with stage(come_s=0.3) as made:
        made.rechecks.suspect(SUSPICION, old())
        await heard(made)
        made.rechecks.not_admitted(NODE.peer, "Too slow for any role.", final=False)
        await made.until("suspect", "voided")
        revocation = made.board.revocation(NODE.peer)
        assert revocation is not None
        assert "Too slow for any role" in revocation.why

        assert revocation.until < time.time() - 300


async def test_a_node_that_does_not_come_is_called_until_it_has_heard_and_then_its_certificate_is_void() -> None:
    async with stage(come_s=0.5) as made:
        refusals = iter([True, True])

        async def busy(peer: PeerId, payload: bytes) -> bytes:
            made.called += 1
            if next(refusals, False):
                raise TooSoon("Called already.")
            return b""

        made.node._calls[RECHECK_CALL] = busy
        made.rechecks.suspect(SUSPICION, old())
        await made.until("suspect", "voided")
        assert made.called == 3


async def test_a_node_that_waits_in_the_queue_has_come() -> None:
    async with stage(come_s=0.2) as made:
        made.present = True
        made.rechecks.suspect(SUSPICION, old())
        await asyncio.sleep(0.6)
        assert made.kinds == ["suspect"]
        made.present = False
        await made.until("suspect", "voided")


async def test_a_node_that_is_gone_loses_its_certificate_and_no_more() -> None:
    async with stage(come_s=0.2) as made:
        made.network.kill(NODE.peer)
        made.listed.clear()
        made.rechecks.suspect(SUSPICION, old())
        await made.until("suspect", "gone")
        revocation = made.board.revocation(NODE.peer)
        assert revocation is not None
        assert revocation.until < time.time() - 300
        assert revocation.issued > THEN


async def test_what_other_authorities_certified_meanwhile_counts() -> None:
    async with stage(come_s=0.2) as made:
        made.listed[NODE.peer] = old(issued=THEN + 900, figures=scaled(0.3))
        made.rechecks.suspect(SUSPICION, old())
        await made.until("suspect", "lowered")


async def test_a_figure_that_another_authority_carried_over_is_no_measurement() -> None:
    others = [MAINTAINERS[1].public_key.hex()]
    mine = [MAINTAINERS[0].public_key.hex()]
    carried = renewed(FAST, Figures(decode_blocks_per_s=120.0, batch_blocks_per_s=110.0, prefill_blocks_per_s=850.0))
    for measured_by, kind in ((others, "voided"), (mine, "confirmed")):
        async with stage(come_s=0.2) as made:
            made.listed[NODE.peer] = old(issued=THEN + 900, figures=carried, measured_by=measured_by)
            made.rechecks.suspect(SUSPICION, old())
            await made.until("suspect", kind)
    afresh = Figures(decode_blocks_per_s=89.0, batch_blocks_per_s=179.0, prefill_blocks_per_s=809.0)
    async with stage(come_s=0.2) as made:
        made.listed[NODE.peer] = old(issued=THEN + 900, figures=afresh, measured_by=others)
        made.rechecks.suspect(SUSPICION, old())
        await made.until("suspect", "confirmed")


async def test_where_one_maintainer_is_not_enough_a_draft_is_left_for_the_others(tmp_path: Path) -> None:
    async with stage(TWO_SIGN, drafts=tmp_path) as made:
        made.rechecks.suspect(SUSPICION, old())
        await heard(made)
        made.rechecks.not_admitted(NODE.peer, "Too slow.", final=True)
        await made.until("suspect", "let_go", "draft")
        assert made.board.revocation(NODE.peer) is None
        (draft,) = list(tmp_path.iterdir())  # noqa: ASYNC240 - one local folder
        paper = read_paper(draft)
        assert isinstance(paper.content, Revocation)
        assert paper.content.peer == NODE.peer
        assert paper.signers(TWO_SIGN.charter.maintainers) == [MAINTAINERS[0].public_key.hex()]
        made.board.add(paper.signed_by(MAINTAINERS[1]).raw)
        assert made.board.revocation(NODE.peer) is not None
        assert str(draft) in made.events[-1].text


async def test_a_second_suspicion_changes_nothing_while_the_first_is_dealt_with() -> None:
    async with stage() as made:
        for _ in range(5):
            made.rechecks.suspect(SUSPICION, old())
        await heard(made)
        made.rechecks.certified(old(issued=int(time.time())))
        await made.until("suspect", "confirmed")
        assert made.called == 1


async def test_news_of_others_is_nobodys_case() -> None:
    async with stage() as made:
        made.rechecks.certified(old())
        made.rechecks.not_admitted(NODE.peer, "Too slow.", final=True)
        assert made.events == []


async def test_a_terminal_that_was_closed_ends_nothing() -> None:
    async with stage() as made:

        def closed(event: FitnessEvent) -> None:
            made.events.append(event)
            raise BrokenPipeError

        made.rechecks._shown = closed
        for turn in range(2):
            made.called = 0
            made.rechecks.suspect(SUSPICION, old())
            await heard(made)
            made.rechecks.certified(old(issued=int(time.time())))
            await made.until(*["suspect", "confirmed"] * (turn + 1))
