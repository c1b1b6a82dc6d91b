"""An author's command: it goes on after every break, pays once, and says what is wrong in one sentence."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gridllm.errors import (
    Insufficient,
    KeeperSilent,
    LeaderboardError,
    ModelError,
    NotAccepted,
    PutOff,
    UsageError,
)
from gridllm.identity.keys import Identity
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.outbox import Outbox
from gridllm.ledger.paper import sign
from gridllm.ledger.statements import Grant
from gridllm.models.files import find_model
from gridllm.models.manifest import Manifest
from gridllm_leaderboard.cli.submit import submit
from gridllm_leaderboard.link import LeaderboardLink
from gridllm_leaderboard.messages import SubmissionView
from gridllm_leaderboard.submitting import author as authors
from gridllm_leaderboard.submitting.author import Author, Words, check_words, submission_of
from gridllm_leaderboard.submitting.fee import pay_fee
from gridllm_leaderboard.submitting.licence import licence_of
from tests.unit.leaderboard_house import CREDIT, House, hex_of, house
from tests.unit.ledger_desk import make_desk
from tests.unit.upload_hall import small_model

FEE = 3 * CREDIT
WORDS = Words("owl", "it reads more", "MIT")


class Notes:
    """Hears how it goes."""

    def __init__(self) -> None:
        self.states: list[tuple[str, bool]] = []
        self.payments: list[bool] = []

    def state(self, view: SubmissionView, resumed: bool) -> None:
        self.states.append((view.state, resumed))

    def sent(self, done: int, total: int) -> None:
        assert 0 <= done <= total

    def paid(self, micro: int, now: bool) -> None:
        assert micro == FEE
        self.payments.append(now)


class Run:
    """The command, as often as one likes, each time as a process of its own."""

    def __init__(self, made: House) -> None:
        self.house = made
        self.author = made.author
        self.manifest = small_model(made.folder / "model", 1, {"embed": torch.arange(500.0)})
        self.notes = Notes()

    @property
    def outbox(self) -> Outbox:
        return Outbox(self.house.folder / "outbox", self.house.signed, self.author)

    async def grant(self, micro: int) -> None:
        said = Grant(grid=self.house.signed.grid, account=hex_of(self.author), micro=micro, reason="a test",
                     serial="1" * 32, issued=int(self.house.clock()))  # fmt: skip
        keepers = self.keepers()
        (outcome,) = await keepers.submit(keepers.all[0], [sign(said, self.house.maintainer)])
        assert outcome.code == "accepted"

    def keepers(self) -> Keepers:
        return Keepers(self.house.network.join(Identity.ephemeral()), self.house.signed)

    async def balance(self) -> int:
        view = await self.keepers().account(hex_of(self.author))
        return view.granted + view.received - view.sent

    async def submit(self, words: Words = WORDS, manifest: Manifest | None = None, **options: Any) -> SubmissionView:
        made, self.notes = self.house, Notes()
        swarm = made.network.join(Identity.ephemeral())
        rules = made.board.rules
        assert rules is not None
        addresses = made.network.find(made.peer).addresses
        await swarm.connect(made.peer, addresses)
        link = LeaderboardLink(swarm, made.signed, made.board, rules, made.peer, addresses)
        keepers = Keepers(swarm, made.signed)
        one = Author(link, self.author, lambda view: pay_fee(keepers, self.outbox, view), self.notes)
        return await one.submit(made.folder / "model", manifest or self.manifest, words, **options)


@pytest.fixture
async def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    monkeypatch.setattr(authors, "LOOK_S", 0.02)
    monkeypatch.setattr(authors, "PATIENT_S", 0.1)
    async with house(tmp_path, fee=FEE, round_s=10**6) as made:
        yield Run(made)


async def test_a_model_is_entered_brought_paid_and_queued_once(run: Run) -> None:
    await run.grant(10 * CREDIT)
    view = await run.submit()
    assert (view.state, view.fee, view.name, view.license) == ("queued", 0, "owl", "MIT")
    assert run.notes.states[0] == ("uploading", False) and run.notes.payments == [True]
    assert await run.balance() == 7 * CREDIT
    again = await run.submit()
    assert again.id == view.id and run.notes.states == [("queued", True)] and run.notes.payments == []
    assert await run.balance() == 7 * CREDIT


async def test_without_waiting_it_is_paid_by_the_next_run(run: Run) -> None:
    await run.grant(10 * CREDIT)
    view = await run.submit(wait=False)
    assert view.state in ("checking", "unpaid") and await run.balance() == 10 * CREDIT
    later = await run.submit(Words("another name", "", "MIT"))
    assert (later.id, later.name, later.state) == (view.id, "owl", "queued")
    assert run.notes.payments == [True] and await run.balance() == 7 * CREDIT


async def test_a_run_that_is_killed_while_it_pays_pays_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    await run.grant(10 * CREDIT)
    before, killed = Outbox.hand_in, RuntimeError("killed")

    async def killed_before(self: Outbox, keepers: Keepers, pending: Any) -> bool:
        raise killed

    async def killed_after(self: Outbox, keepers: Keepers, pending: Any) -> bool:
        await keepers.submit(keepers.home(self.account), [pending.raw])
        raise killed

    for hand_in, left in ((killed_before, 10), (killed_after, 7), (killed_after, 7)):
        with monkeypatch.context() as patch:
            patch.setattr(Outbox, "hand_in", hand_in)
            if left == 10 or await run.balance() == 10 * CREDIT:
                with pytest.raises(RuntimeError, match="killed"):
                    await run.submit()
            assert len(run.outbox.pending()) == 1
        assert await run.balance() == left * CREDIT
    monkeypatch.setattr(Outbox, "hand_in", before)
    view = await run.submit()
    assert view.state == "queued" and True not in run.notes.payments
    assert await run.balance() == 7 * CREDIT


async def test_too_little_credit_and_a_keeper_that_is_silent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    await run.grant(CREDIT)
    with pytest.raises(Insufficient):
        await run.submit()
    assert await run.balance() == CREDIT and run.outbox.pending() == []

    async def silent(self: Outbox, keepers: Keepers, pending: Any) -> bool:
        raise PutOff("0" * 64, "it stops")

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "hand_in", silent)
        with pytest.raises(KeeperSilent):
            await run.submit()
    assert len(run.outbox.pending()) == 1


async def test_two_processes_do_not_both_pay(run: Run) -> None:
    await run.grant(10 * CREDIT)
    await run.submit(wait=False)
    done = await asyncio.gather(*(run.submit() for _ in range(3)), return_exceptions=True)
    assert all(isinstance(one, LeaderboardError | SubmissionView) for one in done), done
    assert (await run.submit()).state == "queued" and await run.balance() == 7 * CREDIT


async def test_a_model_that_the_check_refuses_may_be_brought_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [True]

    async def check(self: House, folder: Path, manifest: Manifest) -> None:
        if broken[0]:
            raise ModelError("Tensor embed holds NaN or infinity: the model is broken.")

    monkeypatch.setattr(House, "_check", check)
    monkeypatch.setattr(authors, "LOOK_S", 0.02)
    async with house(tmp_path, round_s=10**6) as made:
        run = Run(made)
        with pytest.raises(LeaderboardError, match="does not take 'owl': Tensor embed holds NaN"):
            await run.submit()
        broken[0] = False
        assert (await run.submit()).state == "queued" and run.notes.states[0] == ("uploading", False)


async def test_what_the_leaderboard_does_not_take(run: Run) -> None:
    await run.submit(wait=False)
    run.author = Identity.ephemeral()
    for words, sentence in ((WORDS, "submitted before, as 'owl'"), (Words("OWL", "", "MIT"), "submitted before")):
        with pytest.raises(NotAccepted, match=sentence):
            await run.submit(words)
    run.manifest = small_model(run.house.folder / "model", 2, {"embed": torch.arange(500.0) + 1})
    with pytest.raises(NotAccepted, match="called 'owl' already"):
        await run.submit(Words("Owl", "", "MIT"))
    (run.house.folder / "model/tokenizer.json").write_text("{}")
    same = small_model(run.house.folder / "model", 3, {"embed": torch.arange(500.0)})
    with pytest.raises(NotAccepted, match="weights were submitted before"):
        await run.submit(Words("eagle", "", "MIT"), same)


# before anything is sent


def card(text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "README.md").write_text(text)
        return folder

    return write


@pytest.mark.parametrize("text, said, licence", [
    ("---\nlicense: apache-2.0\n---\n# x", None, "apache-2.0"),
    ("---\nlicense: apache-2.0\n---\n# x", "MIT", "MIT"),
    ('---\ntags: [a]\nlicense:\n  - mit\n  - "cc0-1.0"\n---\n', None, "mit, cc0-1.0"),
    ("---\nlicense: other\nlicense_name: owl licence\n---\n", None, "owl licence"),
], ids=["card", "said", "list", "other"])  # fmt: skip
def test_a_licence_is_found(tmp_path: Path, text: str, said: str | None, licence: str) -> None:
    assert licence_of(card(text)(tmp_path), said) == licence


@pytest.mark.parametrize("text", [
    "", "license: mit", "---\nlicense: mit\n", "---\nlicense: [\n---\n", "---\n- a\n---\n",
    "---\nlicense: unknown\n---\n", "---\nlicense:\n---\n",
], ids=["empty", "no front", "no end", "no yaml", "list", "unknown", "nothing"])  # fmt: skip
def test_a_licence_that_nobody_says(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="under which licence"):
        licence_of(card(text)(tmp_path))
    with pytest.raises(UsageError, match="is no licence's name"):
        licence_of(tmp_path, "x" * 65)


def test_words_that_cannot_stand_in_a_submission(tmp_path: Path) -> None:
    manifest = small_model(tmp_path / "a")
    for words, field in (
        (Words("owl/../..", "", "MIT"), "--name"),
        (Words("owl", "x" * 501, "MIT"), "--message"),
        (Words("owl", "", "MIT", base="owl"), "--base"),
    ):
        with pytest.raises(UsageError, match=f"^{field} .* cannot be used"):
            submission_of("0" * 64, "1" * 64, manifest, words, 1)
        with pytest.raises(UsageError, match=f"^{field} .* cannot be used"):
            check_words("0" * 64, "1" * 64, words)  # before the model is read


def test_the_command_refuses_before_it_joins_the_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_desk(tmp_path, monkeypatch)
    folder = Path(shutil.copytree(find_model("demo"), tmp_path / "model"))

    def told(error: type[Exception], **options: Any) -> str:
        with pytest.raises(error) as caught:
            submit(**{"model": str(folder), "name": "owl", "message": "", **options})
        return str(caught.value)

    assert "cannot be used" in told(UsageError, name="not/a name")
    (folder / "README.md").unlink()
    assert "under which licence" in told(UsageError)
    raw = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(raw[:-1])
    assert "it is damaged" in told(ModelError, license_="MIT")
    (folder / "model.safetensors").rename(folder / "model.bin")
    assert "pickled weights can run code" in told(ModelError, license_="MIT")
    assert "not a Hub id" in told(ModelError, model=str(tmp_path / "none"))
