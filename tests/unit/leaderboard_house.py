"""A leaderboard, its grid's keeper, authors and graders on a network in memory. Graders' results follow a script."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from gridllm.admission.cards import publish_card
from gridllm.charter.board import NoticeBoard
from gridllm.charter.contest import RULES_TYPE, Rules
from gridllm.charter.document import sign_charter
from gridllm.charter.economy import Economy
from gridllm.identity.keys import Identity
from gridllm.identity.statement import sign_statement
from gridllm.ids import PeerId
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.paper import Rulebook
from gridllm.ledger.paper import sign as sign_entry
from gridllm.ledger.statements import Delegation, Grant, Transfer
from gridllm.models.manifest import root as root_of
from gridllm.swarm.memory import MemoryNetwork
from gridllm_bootstrap.keeping.calls import Calls
from gridllm_bootstrap.keeping.desk import Keeper
from gridllm_leaderboard import messages
from gridllm_leaderboard.checking.facts import facts_of
from gridllm_leaderboard.desk import agenda, arrivals, course
from gridllm_leaderboard.desk.consequences import Shape
from gridllm_leaderboard.desk.start import Office, Opened, open_leaderboard
from gridllm_leaderboard.messages import Message, pack, unpack
from gridllm_leaderboard.payments import memo_for
from gridllm_leaderboard.ranking.points import grade_of, result_of
from gridllm_leaderboard.results import read_items, results_root, write_results
from gridllm_leaderboard.statements import Draw, Grade, Submission, id_of, sign, verify_document
from gridllm_leaderboard.tasks import load
from gridllm_leaderboard.upload.sending import Bundle, send_bundle
from tests.charters import charter
from tests.unit.keeper_desk import opened
from tests.unit.leaderboard_answers import answers
from tests.unit.upload_hall import small_model

SPEED: Final = 20.0  # seconds of the house's clock in one of ours: documents have whole seconds
CREDIT: Final = 10**6
PATIENCE_S: Final = 200  # for one answer: some tests ask a thousand times at once
TASKS: Final = {"stories": 20, "sums": 60}


class House:
    """``async with house(tmp_path) as made``."""

    def __init__(self, folder: Path, rules: dict[str, Any], economy: dict[str, Any], others: int = 0) -> None:
        self.folder = folder
        self.network = MemoryNetwork()
        self.maintainer, self.identity = Identity.ephemeral(), Identity.ephemeral()
        self.others = [Identity.ephemeral() for _ in range(others)]
        self.author, self.grader, self.second = (Identity.ephemeral() for _ in range(3))
        keeps_books: dict[str, Any] = {"required": True, "newcomers": "nothing"} | economy
        keeps_books["keepers"] = (hex_of(self.maintainer),)
        council = [self.maintainer, *self.others]
        said = charter(maintainers=list(map(hex_of, council)), threshold=len(council), economy=Economy(**keeps_books))
        self.signed = sign_charter(said, council)
        self.board = NoticeBoard(self.signed)
        self._began, self._start = time.time(), time.monotonic()
        self.tasks = {name: load(name) for name in TASKS}
        self.told: list[tuple[str, Any]] = []
        self.opened: Opened | None = None
        self.peer = PeerId("")
        self._stack = AsyncExitStack()
        self.wanting: list[Exception] = []
        """What the next checks of models find."""
        self._rules = rules
        self.say_rules()

    def clock(self) -> float:
        return self._began + SPEED * (time.monotonic() - self._start)

    @property
    def database_url(self) -> str:
        """Of the leaderboard."""
        return f"sqlite:///{self.folder / 'leaderboard.sqlite'}"

    def skip(self, seconds: float) -> None:
        """So much time goes by at once."""
        self._began += seconds

    def say_rules(self, **changes: Any) -> Rules:
        """The next rules."""
        serial = 1 if self.board.rules is None else self.board.rules.serial + 1
        fields: dict[str, Any] = {
            "grid": self.signed.grid,
            "serial": serial,
            "issued": int(self.clock()),
            "account": hex_of(self.identity),
            "graders": (hex_of(self.grader),),
            "tasks": tuple(self.tasks[name].rule(items) for name, items in TASKS.items()),
            "round_s": 0,
        }
        rules = Rules(**fields | self._rules | changes)
        self.board.add(sign_statement(rules, RULES_TYPE, [self.maintainer, *self.others]))
        return rules

    async def start(self) -> None:
        """The leaderboard's process begins: for the first time, or after it was killed."""
        swarm = self.network.join(self.identity)
        office = Office(
            self.identity,
            self.maintainer,
            self.database_url,
            self.folder / "vault",
            self.folder,
            self.tasks,
            check=self._check,
            clock=self.clock,
        )
        self._stack.push_async_callback(swarm.close)
        opening = open_leaderboard(office, swarm, self.signed, self.board, lambda *said: self.told.append(said))
        self.opened = await self._stack.enter_async_context(opening)
        self.peer = swarm.peer

    async def stop(self) -> None:
        """As at an end that nobody prepared: what is under way is cut off."""
        self.network.kill(self.peer)
        await self._stack.aclose()

    async def _check(self, folder: Path, manifest: Any) -> None:
        """Stands in for a child process."""
        if self.wanting:
            raise self.wanting.pop()

    # what others do

    async def ask(self, who: Identity, call: str, message: Message, kind: type[Any]) -> Any:
        swarm = self.network.peek(who.peer) or self.network.join(who)
        return unpack(await swarm.call(self.peer, call, pack(message), timeout_s=PATIENCE_S), kind)

    def delegation(self, who: Identity) -> bytes:
        now = int(self.clock())
        fields = {"grid": self.signed.grid, "account": hex_of(who), "client": who.peer}
        return sign_entry(Delegation(**fields, issued=now, expires=now + 10_000), who)

    def submission(self, seed: int, author: Identity | None = None, **changes: Any) -> Submission:
        """Of a tiny model, which lies in ``folder / str(seed)`` afterwards."""
        sizes = {"embed": 100, "layers.0.w": 50, "layers.1.w": 40}
        made = torch.Generator().manual_seed(seed)
        tensors = {name: torch.randn(size, generator=made) for name, size in sizes.items()}
        manifest = small_model(self.folder / str(seed), seed, tensors)
        facts = facts_of(manifest)
        fields: dict[str, Any] = {
            "grid": self.signed.grid,
            "account": hex_of(author or self.author),
            "root": root_of(manifest),
            "weights": facts.weights,
            "name": f"model {seed}",
            "message": "a test",
            "license": "MIT",
            "base": None,
            "serve": True,
            "parameters": facts.parameters,
            "size": facts.size,
            "issued": int(self.clock()),
        }
        return Submission(**fields | changes)

    async def enter(self, said: Submission, author: Identity | None = None) -> messages.SubmissionView:
        whose = author or self.author
        view: messages.SubmissionView = await self.ask(
            whose, messages.ENTER_CALL, messages.Enter(sign(said, whose)), messages.SubmissionView
        )
        return view

    async def submit(self, seed: int, author: Identity | None = None, **changes: Any) -> str:
        """Enter and bring a model; its id."""
        whose = author or self.author
        said = self.submission(seed, whose, **changes)
        view = await self.enter(said, whose)
        await self.bring(seed, view.id, whose)
        return view.id

    async def bring(self, seed: int, id_: str, author: Identity | None = None) -> None:
        whose = author or self.author
        sizes = {"embed": 100, "layers.0.w": 50, "layers.1.w": 40}
        made = torch.Generator().manual_seed(seed)
        tensors = {name: torch.randn(size, generator=made) for name, size in sizes.items()}
        bundle = Bundle(self.folder / str(seed), small_model(self.folder / str(seed), seed, tensors))
        swarm = self.network.peek(whose.peer) or self.network.join(whose)

        async def find() -> tuple[PeerId, tuple[str, ...]]:
            return self.peer, self.network.find(self.peer).addresses

        await send_bundle(swarm, find, id_, lambda: self.delegation(whose), bundle)

    async def view(self, id_: str) -> messages.SubmissionView:
        page = await self.ask(
            self.author, messages.SUBMISSIONS_CALL, messages.AskSubmissions(limit=1000), messages.Submissions
        )
        found: messages.SubmissionView = next(one for one in page.submissions if one.id == id_)
        return found

    async def until(self, id_: str, *states: str) -> messages.SubmissionView:
        """Wait for a submission to be in one of these states."""
        async with asyncio.timeout(60):
            while (view := await self.view(id_)).state not in states:  # noqa: ASYNC110 - the desk tells no news
                await asyncio.sleep(0.05)
        return view

    async def until_why(self, id_: str, text: str) -> messages.SubmissionView:
        """Wait for its author to be told that."""
        async with asyncio.timeout(60):
            while text not in (view := await self.view(id_)).why:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return view

    async def until_ranked(self, *ids: str) -> messages.Rank:
        """Wait for the ranking to show these models: it follows a verdict within a moment."""
        async with asyncio.timeout(60):
            while True:
                rank: messages.Rank = await self.ask(self.author, messages.RANK_CALL, messages.AskRank(), messages.Rank)
                if {*ids} <= {row.submission for row in rank.rows}:
                    return rank
                await asyncio.sleep(0.02)

    async def until_told(self, kind: str, count: int = 1) -> Any:
        """Wait for the ``count``th event of that kind; its facts."""
        async with asyncio.timeout(60):
            while len(found := [facts for name, facts in self.told if name == kind]) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return found[count - 1]

    async def pay(self, id_: str, micro: int, payer: Identity) -> None:
        """Grant the payer that much, and have it pay."""
        keepers = Keepers(self.network.peek(payer.peer) or self.network.join(payer), self.signed)
        common: dict[str, Any] = {
            "grid": self.signed.grid,
            "micro": micro,
            "serial": id_[:32],
            "issued": int(self.clock()),
        }
        grant = Grant(account=hex_of(payer), reason="a test", **common)
        memo = memo_for(id_)
        transfer = Transfer(payer=hex_of(payer), payee=hex_of(self.identity), memo=memo, **common)
        raws = [sign_entry(grant, self.maintainer), sign_entry(transfer, payer)]
        for raw in raws:
            (outcome,) = await keepers.submit(keepers.all[0], [raw])
            assert outcome.code == "accepted", outcome

    # graders

    async def work(self, grader: Identity) -> messages.Work:
        said: messages.Work = await self.ask(
            grader, messages.WORK_CALL, messages.AskWork(self.delegation(grader)), messages.Work
        )
        return said

    async def until_work(self, grader: Identity) -> messages.Work:
        async with asyncio.timeout(60):
            while not (work := await self.work(grader)).tasks:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return work

    async def lines(self, root: str) -> bytes:
        piece = await self.ask(self.grader, messages.LINES_CALL, messages.AskLines(root), messages.Piece)
        assert len(piece.data) == piece.total
        return bytes(piece.data)

    async def graded(self, grader: Identity, work: messages.Work, said: Submission, quality: float) -> Grade:
        """Results of a model that gets that share of items right, handed in; the grade is not yet."""
        assert work.draw is not None
        draw = verify_document(work.draw, Draw, self.signed.grid, hex_of(self.identity))
        tasks = []
        for drawn in draw.items:
            kind = self.tasks[drawn.task].kind
            items = read_items(await self.lines(drawn.root))
            results = [result_of(kind, item, said) for item, said in zip(items, answers(items, quality), strict=True)]
            await self.put(grader, write_results(results), results_root(results))
            tasks.append(grade_of(drawn.task, kind, drawn.root, results))
        return Grade(
            grid=self.signed.grid,
            round=draw.round,
            draw=id_of(draw),
            submission=id_of(said),
            root=said.root,
            grader=hex_of(grader),
            harness="scripted",
            dtype="float32",
            via="local",
            tasks=tuple(tasks),
            issued=int(self.clock()),
        )

    async def put(self, grader: Identity, raw: bytes, root: str) -> None:
        piece = messages.PutLines(self.delegation(grader), root, len(raw), 0, raw)
        taken = await self.ask(grader, messages.PUT_LINES_CALL, piece, messages.Taken)
        assert taken.offset == len(raw)

    async def put_grade(self, grader: Identity, said: Any, *, failure: bool = False) -> messages.Taken:
        put = messages.PutGrade(sign(said, grader), failure)
        taken: messages.Taken = await self.ask(grader, messages.PUT_GRADE_CALL, put, messages.Taken)
        return taken

    async def grade_all(self, quality: Callable[[str], float], graders: Sequence[Identity] = ()) -> None:
        """Every grader grades all that it is asked to, once; ``quality``: of the model of that name."""
        for grader in graders or [self.grader]:
            work = await self.until_work(grader)
            for task in work.tasks:
                said = verify_document(task.submission, Submission, self.signed.grid, hex_of(self.identity))
                grade = await self.graded(grader, work, said, quality(said.name))
                await self.put_grade(grader, grade)


def hex_of(identity: Identity) -> str:
    return identity.public_key.hex()


@asynccontextmanager
async def house(
    folder: Path, economy: dict[str, Any] | None = None, others: int = 0, **rules: Any
) -> AsyncIterator[House]:
    """One keeper and one leaderboard that runs.

    Args:
        others: maintainers who have to sign, too.
        rules: fields of the first ones.
    """
    made = House(folder, rules, economy or {}, others)
    there = made.network.join(Identity.ephemeral())
    patch = pytest.MonkeyPatch()
    patch.setattr(arrivals, "shape_of", lambda folder, manifest: Shape(2, 8, "float32", 90))
    patch.setattr(agenda, "FEES_EVERY_S", 0.1)
    patch.setattr(course, "DRAW_EVERY_S", 0.05)
    with opened(folder / "ledger.sqlite") as store:
        rulebook = Rulebook(made.signed, {})
        async with Keeper(store, rulebook, made.maintainer, NoticeBoard(made.signed), clock=made.clock) as keeper:
            await Calls(keeper, there).serve()
            await publish_card(there, made.signed.grid, made.maintainer, office="keepers")
            await made.start()
            try:
                yield made
            finally:
                await made.stop()
                patch.undo()
