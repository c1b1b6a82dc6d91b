"""The ranking of ten thousand submissions, and who is asked for contributions how often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gridllm.errors import Full, KeeperSilent, NotHeld
from gridllm.ledger.messages import AccountView
from gridllm.swarm.interface import MAX_CALL_BYTES
from gridllm_leaderboard.desk import contributions
from gridllm_leaderboard.desk.contributions import Contributions
from gridllm_leaderboard.desk.standing import Standing
from gridllm_leaderboard.messages import AskRank, pack
from gridllm_leaderboard.records import Entry, Mark
from tests.leaderboard_seasons import digest, submitted
from tests.ledgers import paid_grid
from tests.unit.notes import until
from tests.unit.test_leaderboard_decisions import rules

COUNT = 10_000


class FakeView:
    """Ten thousand graded submissions; every tenth is withdrawn."""

    def __init__(self) -> None:
        first = submitted(0)
        self.found: dict[str, Entry] = {}
        for number in range(COUNT):
            said = first.submission.model_copy(update={"name": f"m{number}", "root": digest(number)})
            state = "withdrawn" if number % 10 == 9 else "graded"
            self.found[digest("id", number)] = Entry(digest("id", number), b"", said, state, 0)  # type: ignore[arg-type]

    def marks(self) -> list[Mark]:
        scores = ((id_, 100 * number / COUNT) for number, id_ in enumerate(self.found))
        return [
            Mark(id_, 1, score, score - 1, score + 1, {"sums": (1 - score / 100, 0.0, 1.0)}) for id_, score in scores
        ]

    def several(self, ids: Any) -> dict[str, Entry]:
        return {id_: self.found[id_] for id_ in ids}

    def champion(self) -> str:
        return digest("id", COUNT - 2)

    def value(self, key: str) -> None:
        return None

    def rules_by_round(self, after: int = 0) -> dict[int, str]:
        return {1: "first"}


def desk_of(view: FakeView) -> Any:
    async def read(work: Callable[[Any], Any]) -> Any:
        return await asyncio.to_thread(work, view)

    held = rules()
    return SimpleNamespace(
        books=SimpleNamespace(read=read), ranked=0, rules=held, rules_of=lambda view, id_: held, signed=paid_grid()
    )


async def test_ten_thousand_are_ranked_from_memory() -> None:
    desk = desk_of(FakeView())
    standing = Standing(desk)
    await standing.warm()
    began = time.process_time()
    page = await standing.rank(AskRank(limit=1000))
    pack(page)
    assert time.process_time() - began < 1.0  # measured 0.01
    assert page.total == COUNT - COUNT // 10
    assert (page.rows[0].name, page.rows[0].place, page.rows[0].champion) == (f"m{COUNT - 2}", 1, True)
    everyone = await standing.rank(AskRank(everyone=True, offset=COUNT - 1))
    assert everyone.total == COUNT and [row.name for row in everyone.rows] == ["m0"]
    by_task = await standing.rank(AskRank(task="sums", limit=1))
    assert by_task.rows[0].name == "m0"
    with pytest.raises(NotHeld, match="has no task 'poems'"):
        await standing.rank(AskRank(task="poems"))
    desk.ranked += 1
    await standing.warm()
    assert (await standing.rank(AskRank(limit=1))).rows[0].name == f"m{COUNT - 2}"


async def test_a_page_of_rows_with_many_tasks_fits_a_call() -> None:
    view = FakeView()
    desk = desk_of(view)
    tasks = {f"a_task_with_a_long_name_number_{number}": (0.5, 0.4, 0.6) for number in range(32)}
    marks = [Mark(id_, 1, 50.0, 49.0, 51.0, tasks) for id_ in list(view.found)[:1000]]
    view.marks = lambda: marks  # type: ignore[method-assign]
    page = await Standing(desk).rank(AskRank(limit=1000))
    assert 1 < len(page.rows) < page.total == 900  # whoever asks goes on after these
    assert len(pack(page)) <= MAX_CALL_BYTES


class FakeKeepers:
    """Answers when told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        self.at_once = 0

    def home(self, account: str) -> str:
        return "k" * 64

    async def account(self, account: str) -> AccountView:
        self.asked.append(account)
        self.at_once = max(self.at_once, len(self.asked))
        await self.may_answer.wait()
        return AccountView(account, granted=50, earned=9, spent=3, received=20, sent=2)


async def test_an_account_is_asked_for_once_and_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    keepers = FakeKeepers()
    asking = Contributions(keepers, clock=lambda: now_s)  # type: ignore[arg-type]
    waiting = [asyncio.create_task(asking.of(f"a{number % 100}")) for number in range(300)]
    await until(lambda: len(keepers.asked) >= contributions.AT_ONCE)
    await asyncio.sleep(0.05)
    assert len(keepers.asked) == contributions.AT_ONCE
    monkeypatch.setattr(contributions, "MOST_WAITING", 100)
    with pytest.raises(Full, match="run the same command again"):
        await asking.of("another")
    keepers.may_answer.set()
    assert set(await asyncio.gather(*waiting)) == {9 - 3 - 2}
    assert len(keepers.asked) == 100
    await asking.of("a7")
    now_s = contributions.FRESH_S + 1
    await asking.of("a7")
    assert keepers.asked.count("a7") == 2
    await asking.close()


async def test_a_keeper_that_hangs_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contributions, "ASK_S", 0.05)
    asking = Contributions(FakeKeepers())  # type: ignore[arg-type]
    with pytest.raises(KeeperSilent, match="nothing came within"):
        await asking.of("a")
    await asking.close()
