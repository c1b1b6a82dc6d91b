"""A submitted model at the authority: measured for once it is listed and its manifest is there; reports of it count."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from gridllm.admission import admit as admit_module
from gridllm.admission.admit import admit
from gridllm.admission.certificate import verify_signatures
from gridllm.admission.messages import Verdict, encode
from gridllm.charter.board import NoticeBoard
from gridllm.charter.catalogue import Catalogue
from gridllm.errors import Malformed, NodeFault, WrongModel
from gridllm.identity.keys import Identity
from gridllm_bootstrap.fitness.reports import SpeedReports
from gridllm_bootstrap.limits import Limits
from tests.unit.authority_hall import CANDIDACY, Hall, Watching, hall, heard, hello, say, signed_charter
from tests.unit.contests import NOW, listing, model
from tests.unit.test_bootstrap_reports import SIGNED as REPORTED
from tests.unit.test_bootstrap_reports import Desk, FixedRoster

SIGNED = signed_charter(threshold=1)
BETTER = model("better")


def learn(made: Hall) -> None:
    """Its manifest is there; nothing is computed with it here."""
    cast(Any, made.offices[0].authority)._manifests[BETTER.model_root] = None


async def asks(made: Hall) -> Verdict:
    swarm = made.candidate()
    said = await say(swarm, made.offices[0], encode(hello(SIGNED, swarm, model=BETTER.root)))
    verdict = await heard(said)
    await said.stream.close()
    assert isinstance(verdict, Verdict)
    return verdict


async def test_it_is_measured_for_once_it_is_listed_and_known() -> None:
    async with hall(SIGNED, 0, limits=Limits(tries=3)) as made:
        office = made.offices[0]
        with pytest.raises(WrongModel, match="as far as this authority knows"):
            await asks(made)
        office.board.add(listing(SIGNED, BETTER))
        with pytest.raises(NodeFault, match="has no manifest of better yet"):
            await asks(made)
        assert not office.examined
        learn(made)
        assert (await asks(made)).admitted
        assert [one.entry for one in office.examined] == [BETTER]
        office.board.add(listing(SIGNED, BETTER, NOW + 1, withdrawn=True))
        with pytest.raises(WrongModel):
            await asks(made)


async def test_a_candidate_waits_for_an_authority_that_has_not_heard_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_PAUSE_S", "LONGEST_PAUSE_S"):
        monkeypatch.setattr(admit_module, name, 0.05)
    monkeypatch.setattr("gridllm.admission.candidate_book.FIRST_REST_S", 0.05)
    async with hall(SIGNED, 0) as made:
        learn(made)
        watching = Watching()
        candidacy = replace(CANDIDACY, entry=BETTER)
        asking = asyncio.create_task(
            admit(made.candidate(), SIGNED, NoticeBoard(SIGNED), candidacy, watching, wait_s=20)
        )
        async with asyncio.timeout(60):
            while not any("serves no model of root" in note for note in watching.notes):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not asking.done()
        made.offices[0].board.add(listing(SIGNED, BETTER))
        certificate = verify_signatures(await asking, SIGNED)
        assert certificate.model == BETTER.root


async def test_reports_of_its_chains_count() -> None:
    board, desk = NoticeBoard(REPORTED), Desk()
    catalogue = Catalogue(REPORTED, board)
    desk.reports = SpeedReports(
        REPORTED,
        desk.fitness,
        FixedRoster(),
        lambda one, _: desk.suspects.append(one),
        desk.seen_at,
        clock=lambda: desk.now,
        elapsed=lambda: desk.now,
        blocks=lambda root: None if (entry := catalogue.entry(root)) is None else entry.blocks,
    )
    with pytest.raises(Malformed, match="not one over a whole model of this grid"):
        await desk.hand_in(Identity.ephemeral(), model=BETTER.root)
    board.add(listing(REPORTED, BETTER))
    await desk.hand_in(Identity.ephemeral(), model=BETTER.root)
    assert len(desk.fitness) == 2
