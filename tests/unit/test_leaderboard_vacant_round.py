"""A champion whose files come back while a round is fought for the vacant title."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from gridllm_leaderboard import messages
from gridllm_leaderboard.desk import agenda, safekeeping
from gridllm_leaderboard.records import Entry
from tests.unit.leaderboard_house import house

QUALITY = {"model 1": 0.9, "model 2": 0.5}.__getitem__


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks and tries follow each other without a pause, and a lost title is vacant at once."""
    for name in ("LOOK_S", "AGAIN_S"):
        monkeypatch.setattr(safekeeping, name, 0.1)
    monkeypatch.setattr(safekeeping, "PATIENCE_S", 0)
    monkeypatch.setattr(agenda, "AGAIN_S", 0.1)
    monkeypatch.setattr(agenda, "IDLE_S", 0.1)


class Gate:
    """Holds looks at files up, while it is shut."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held, self.open = threading.Event(), threading.Event()
        self.open.set()
        look = safekeeping.Safekeeping._fault

        def fault(keeping: safekeeping.Safekeeping, entry: Entry, thorough: bool) -> str:
            said = look(keeping, entry, thorough)
            if not self.open.is_set():
                self.held.set()
                self.open.wait(60)
            return said

        monkeypatch.setattr(safekeeping.Safekeeping, "_fault", fault)

    async def shut(self) -> None:
        """A look is under way from now on, and does not end."""
        self.open.clear()
        assert await asyncio.to_thread(self.held.wait, 60)


@pytest.mark.parametrize("looked", [False, True], ids=["", "and a look at its files ends after the verdict"])
async def test_who_lost_the_title_without_a_duel_is_graded_once_more_though_it_was_found_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: bool
) -> None:
    gate = Gate(monkeypatch)
    async with house(tmp_path) as made:
        first = await made.submit(1)
        await made.grade_all(QUALITY)
        root = (await made.until(first, "graded")).root
        assert made.opened is not None
        folder = made.opened.desk.vault.folder(root)
        assert folder is not None
        folder.rename(tmp_path / "elsewhere")
        await made.until_told("trouble")
        second = await made.submit(2)
        work = await made.until_work(made.grader)
        assert len(work.tasks) == 1, "nobody reigns, so that nobody else is graded"
        (tmp_path / "elsewhere").rename(folder)
        await made.until_told("found")
        if looked:
            await gate.shut()
        await made.grade_all(QUALITY)
        assert (await made.until(second, "graded")).champion
        gate.open.set()
        await asyncio.sleep(0.5)  # several looks
        ask = messages.Regrade(made.delegation(made.author), first)
        await made.ask(made.author, messages.REGRADE_CALL, ask, messages.SubmissionView)
        await made.grade_all(QUALITY)
        assert (await made.until(first, "graded")).champion
