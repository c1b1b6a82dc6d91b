"""A leaderboard with one judged round, all of it truly signed, to alter at any link of the chain.

``alter`` maps a document's name to what is done to it before it is signed: what follows is built on the altered one, as
a leaderboard that cheats there would. What is handed out can be altered afterwards, as somebody on the way would.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gridllm.charter.contest import RULES_TYPE, Rules, TaskRule
from gridllm.charter.economy import Prices
from gridllm.identity.keys import Identity
from gridllm.identity.statement import read_unverified, sign_statement
from gridllm_leaderboard.beacon import seed_of
from gridllm_leaderboard.messages import AnnulledRound, Dossier, RankRow, Reign, SubmissionView
from gridllm_leaderboard.ranking.judge import Graded, RoundFacts, judge, verdict_of
from gridllm_leaderboard.ranking.places import places
from gridllm_leaderboard.ranking.points import grade_of, result_of
from gridllm_leaderboard.ranking.rows import rows
from gridllm_leaderboard.records import Entry
from gridllm_leaderboard.results import (
    ItemResult,
    Line,
    items_root,
    write_items,
    write_results,
)
from gridllm_leaderboard.statements import Annulment, Draw, Grade, ItemSet, Lock, Submission, id_of, sign
from gridllm_leaderboard.tasks import Task, load
from tests.unit.graded_rounds import named
from tests.unit.log_heads import KEEPER, MAINTAINERS, NOW, SIGNED, signed_head

ACCOUNT = Identity.ephemeral()
AUTHORS = {"old": Identity.ephemeral(), "new": Identity.ephemeral()}
GRADERS = [Identity.ephemeral() for _ in range(3)]
TASKS: dict[str, Task] = {name: load(name) for name in ("sums", "stories")}
RIGHT = {"old": 0.3, "new": 0.95}
BITS = {"old": 3.0, "new": 1.0}
ITEMS = 20

Alter = Mapping[str, Callable[[Any], Any]]


def key(identity: Identity) -> str:
    """In hex."""
    return identity.public_key.hex()


class Board:
    """``Evidence`` of a round in which "new" beat "old"."""

    def __init__(self, alter: Alter | None = None) -> None:
        self._alter = alter or {}
        self.lists: dict[str, bytes] = {}
        self.rows: dict[str, RankRow] = {}
        self.tasks: dict[str, Task] = dict(TASKS)
        self.dossiers: dict[str, Dossier] = {}
        self.void: list[AnnulledRound] = []
        self.champions: list[Reign] = []
        self.account = key(ACCOUNT)
        self._build()

    def changed(self, name: str, **fields: Any) -> None:
        """Hand out another dossier about that model."""
        id_ = self.ids[name]
        self.dossiers[id_] = msgspec.structs.replace(self.dossiers[id_], **fields)

    async def dossier(self, submission: str, round_: int) -> Dossier:
        return self.dossiers[submission]

    async def lines(self, root: str) -> bytes:
        return self.lists[root]

    async def task(self, rule: TaskRule) -> Task | None:
        return self.tasks.get(rule.name)

    async def row(self, submission: str) -> RankRow | None:
        return self.rows.get(submission)

    async def annulled(self) -> list[AnnulledRound]:
        return self.void

    async def reigns(self) -> list[Reign]:
        return self.champions

    def void_round(self, number: int, signer: Identity = ACCOUNT, *, drawn: bool = False, **fields: Any) -> bytes:
        """One more round is void, that held "new"; its annulment."""
        rules, _ = read_unverified(self.rules_raw, Rules, RULES_TYPE)
        lock = _lock(rules, self.ids).model_copy(update={"round": number})
        said: dict[str, Any] = {"grid": SIGNED.grid, "round": number, "lock": id_of(lock), "reason": "a test"}
        raw = sign(Annulment(**said | {"issued": lock.issued + 60} | fields), signer)
        draw = self.dossiers[self.ids["new"]].draw if drawn else None
        self.void.append(AnnulledRound(self.rules_raw, sign(lock, ACCOUNT), draw, raw, 0))
        return raw

    def _made(self, name: str, document: Any, signer: Identity) -> tuple[Any, bytes]:
        document = self._alter.get(name, lambda it: it)(document)
        return document, sign(document, signer)

    def _build(self) -> None:
        rules = self._alter.get("rules", lambda it: it)(_rules())
        self.rules_raw = sign_statement(rules, RULES_TYPE, MAINTAINERS[:2])
        papers = {name: self._made(name, _submission(name), AUTHORS[name]) for name in AUTHORS}
        self.ids = {name: id_of(said) for name, (said, _) in papers.items()}
        lock, lock_raw = self._made("lock", _lock(rules, self.ids), ACCOUNT)
        head = self._alter.get("head", lambda it: it)(signed_head(9, issued=NOW + 5))
        seed = seed_of(id_of(lock), head)
        items = self._alter.get("items", lambda it: it)(
            {one.name: TASKS[one.name].draw(seed, ITEMS) for one in rules.tasks}
        )
        draw, draw_raw = self._made("draw", _draw(rules, lock, head, items), ACCOUNT)
        grades = [self._grade(rules, draw, items, papers[name][0], one) for name in AUTHORS for one in GRADERS]
        facts = _facts(rules, lock, draw, papers, [graded for graded, _ in grades])
        judgement = judge(facts)
        _, verdict_raw = self._made("verdict", verdict_of(judgement, facts, SIGNED.grid, NOW + 9), ACCOUNT)
        entries = {id_of(said): Entry(id_of(said), raw, said, "graded", NOW) for said, raw in papers.values()}
        made = rows(places(judgement.marks), entries, judgement.champion, Prices(), {})
        self.rows = {row.submission: row for row in made}
        for name, (said, raw) in papers.items():
            mine = [raw for graded, raw in grades if graded.grade.submission == id_of(said)]
            champions = [raw for graded, raw in grades if graded.grade.submission == lock.champion]
            view = _view(said, id_of(said) == judgement.champion)
            self.dossiers[id_of(said)] = Dossier(
                view, raw, self.rules_raw, lock_raw, draw_raw, mine,
                [] if name == "old" else champions, verdict_raw, None, {},
            )  # fmt: skip

    def _grade(
        self, rules: Rules, draw: Draw, items: Mapping[str, list[Line]], said: Submission, grader: Identity
    ) -> tuple[Graded, bytes]:
        results = {
            rule.name: [_result(rule, number, item, said.name) for number, item in enumerate(items[rule.name])]
            for rule in rules.tasks
        }
        if grader is GRADERS[0]:
            results = self._alter.get(f"results of {said.name}", lambda it: it)(results)
        kinds = {rule.name: rule.kind for rule in rules.tasks}
        tasks = tuple(grade_of(one.task, kinds[one.task], one.root, results[one.task]) for one in draw.items)
        grade = Grade(
            grid=SIGNED.grid, round=1, draw=id_of(draw), submission=id_of(said), root=said.root, grader=key(grader),
            harness="lm_eval 0.4.13", dtype="float32", via="local", tasks=tasks, issued=NOW + 7,
        )  # fmt: skip
        name = f"grade of {said.name}" if grader is GRADERS[0] else ""
        grade, raw = self._made(name, grade, grader)
        for one in grade.tasks:
            self.lists.setdefault(one.results, write_results(results[one.task]))
        self.lists |= {one.root: write_items(items[one.task]) for one in draw.items}
        return Graded(id_of(grade), grade, results), raw


def _rules() -> Rules:
    return Rules(
        grid=SIGNED.grid,
        serial=1,
        issued=NOW,
        account=key(ACCOUNT),
        graders=tuple(map(key, GRADERS)),
        quorum=3,
        tasks=tuple(task.rule(ITEMS) for task in TASKS.values()),
    )


def _submission(name: str) -> Submission:
    return Submission(
        grid=SIGNED.grid, account=key(AUTHORS[name]), root=named(f"root of {name}"), weights=named(f"w of {name}"),
        name=name, message="", license="MIT", base=None, serve=True, parameters=1000, size=4000, issued=NOW,
    )  # fmt: skip


def _view(said: Submission, champion: bool) -> SubmissionView:
    return SubmissionView(
        id_of(said), said.account, said.root, said.name, said.message, said.license, said.base, said.serve,
        said.parameters, said.size, said.issued, "graded", "", 0, key(ACCOUNT), 1, champion,
    )  # fmt: skip


def _lock(rules: Rules, ids: Mapping[str, str]) -> Lock:
    return Lock(
        grid=SIGNED.grid, round=1, rules=id_of(rules), submissions=(ids["new"],), champion=ids["old"],
        keeper=key(KEEPER), size=7, issued=NOW + 1,
    )  # fmt: skip


def _draw(rules: Rules, lock: Lock, head: bytes, items: Mapping[str, list[Line]]) -> Draw:
    sets = tuple(
        ItemSet(task=one.name, commitment=one.commitment, root=items_root(items[one.name]), count=len(items[one.name]))
        for one in rules.tasks
    )
    return Draw(grid=SIGNED.grid, round=1, lock=id_of(lock), head=head.decode(), items=sets, issued=NOW + 6)


def _facts(
    rules: Rules, lock: Lock, draw: Draw, papers: Mapping[str, tuple[Submission, bytes]], grades: list[Graded]
) -> RoundFacts:
    said = [one for one, _ in papers.values()]
    return RoundFacts(
        round=1,
        draw=id_of(draw),
        weights={task.name: task.weight for task in rules.tasks},
        submissions=lock.submissions,
        champion=lock.champion,
        authors={id_of(one): one.account for one in said},
        eligible={id_of(one) for one in said if one.serve},
        graders=rules.graders,
        quorum=rules.quorum,
        grades=grades,
        failures=(),
    )


def _result(rule: TaskRule, number: int, item: Line, model: str) -> ItemResult:
    rng = random.Random(f"{model} {rule.name} {number}")
    if rule.kind == "text":
        bits = max(0.1, rng.gauss(BITS[model], 0.3))
        return result_of("text", item, [-bits * math.log(2) * len(item["text"].encode())])
    right = rng.random() < RIGHT[model]
    return result_of(
        "choice", item, [-1.0 if (at == item["gold"]) == right else -9.0 for at in range(len(item["choices"]))]
    )
