"""A thousand submissions at once: each is told why, nothing grows, and others are answered meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from gridllm.errors import Refusal
from gridllm.identity.keys import Identity
from gridllm_leaderboard import messages
from gridllm_leaderboard.statements import sign
from tests.unit.cheats import swarm_of
from tests.unit.leaderboard_house import CREDIT, House, hex_of, house

CROWD = 1000
ANSWERED_S = 60.0  # another's question, on a machine that does much else


def entries(made: House, authors: Sequence[Identity]) -> list[tuple[Identity, messages.Enter]]:
    """Of as many different models as there are authors in the list."""
    said = made.submission(1)
    signed = []
    for number, author in enumerate(authors):
        other = {"root": f"{number:064x}", "weights": f"{number:064x}", "name": f"m{number}"}
        signed.append(
            (author, messages.Enter(sign(said.model_copy(update=other | {"account": hex_of(author)}), author)))
        )
    return signed


async def stormed(
    made: House, storm: Sequence[tuple[Identity, messages.Enter]], peers: Sequence[Identity]
) -> tuple[list[str], float]:
    """All at once, over these peers: what each is told, and how long another's question took at most."""

    async def enter(number: int, message: messages.Enter) -> str:
        try:
            view = await made.ask(peers[number % len(peers)], messages.ENTER_CALL, message, messages.SubmissionView)
        except Refusal as refusal:
            assert len(str(refusal)) > 20
            return f"{refusal.code}: {refusal}"
        return str(view.state)

    async def watch(done: asyncio.Event) -> float:
        other, slowest = Identity.ephemeral(), 0.0
        swarm_of(made, other)
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await made.ask(other, messages.RANK_CALL, messages.AskRank(), messages.Rank)
            await made.ask(other, messages.SUBMISSIONS_CALL, messages.AskSubmissions(limit=5), messages.Submissions)
            slowest = max(slowest, loop.time() - before)
            if done.is_set():
                return slowest
            await asyncio.sleep(0.05)

    done = asyncio.Event()
    watching = asyncio.create_task(watch(done))
    said = await asyncio.gather(*(enter(number, message) for number, (_, message) in enumerate(storm)))
    done.set()
    return said, await watching


async def test_a_thousand_submissions_at_once_from_one_account(tmp_path: Path) -> None:
    """Through as many peers as it likes: the account's cap holds, and what is over it is told so."""
    async with house(tmp_path, daily=3) as made:
        author, peers = made.author, [Identity.ephemeral() for _ in range(10)]
        said, slowest = await stormed(made, entries(made, [author] * CROWD), peers)
        kinds = Counter(one.split(":")[0] for one in said)
        assert kinds["uploading"] == 3 and kinds.total() == CROWD
        assert all("3 models in 24 hours" in one or "busy with other callers" in one for one in said if ":" in one)
        assert slowest < ANSWERED_S
        page = await made.ask(author, messages.SUBMISSIONS_CALL, messages.AskSubmissions(), messages.Submissions)
        assert page.total == 3


@pytest.mark.parametrize("open_to_all", [False, True], ids=["that gave nothing", "where nothing is asked for"])
async def test_a_thousand_submissions_at_once_from_a_hundred_fresh_accounts(open_to_all: bool, tmp_path: Path) -> None:
    async with house(tmp_path, economy={} if open_to_all else {"submit": CREDIT}, daily=3) as made:
        crowd = [Identity.ephemeral() for _ in range(100)]
        said, slowest = await stormed(made, entries(made, crowd * (CROWD // 100)), crowd)
        taken = [one for one in said if one == "uploading"]
        assert len(taken) == (300 if open_to_all else 0)
        why = "3 models in 24 hours" if open_to_all else "needs a contribution of 1"
        told = [one for one in said if why in one]
        assert len(told) >= 100 and all(why in one or "again" in one for one in said if one != "uploading")
        assert slowest < ANSWERED_S
        assert made.opened is not None and len(made.opened.desk.vault.room.roots) == len(
            taken
        )  # room is kept for these
        page = await made.ask(crowd[0], messages.SUBMISSIONS_CALL, messages.AskSubmissions(), messages.Submissions)
        assert page.total == len(taken)
