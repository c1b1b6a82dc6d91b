"""EleutherAI's lm_eval over a ``Scorer``: the one place that imports it, inside the process that runs the model.

A text is what follows one prefix token (BOS, else EOS); neither texts nor contexts get further special tokens. What is
longer than the model reads is scored in windows, the last of them after as much text as fits; a context is cut from its
left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import lm_eval
from datasets import Dataset
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from gridllm.errors import LeaderboardError
from gridllm.models.scoring import Scorer
from gridllm_leaderboard.grading.journal import Journal
from gridllm_leaderboard.ranking.points import lost_text, result_of
from gridllm_leaderboard.results import ItemResult, Line, digest_of
from gridllm_leaderboard.tasks.taskfile import TaskFile

VERSION: Final = f"lm_eval {lm_eval.__version__}"
LOWEST: Final = -1e11  # nats: a model with absurd weights gets no points, and makes no figure that nobody can add up
TOKENS_AT_ONCE: Final = 4096  # that a scorer is handed: it batches them by length; what a kill of this process loses

Row = tuple[list[int], int]  # tokens, and the first that is scored
OnItems = Callable[[int, int], None]
"""Called with (items done, items in all)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One list of items."""

    label: str  # names it within the job
    file: TaskFile
    items: Sequence[Line]


def run_harness(
    scorer: Scorer, asked: Sequence[Asked], journal: Journal, progress: OnItems
) -> dict[str, list[ItemResult]]:
    """Results of every list, by its label, in the items' order.

    Raises:
        LeaderboardError: the harness and we do not agree on an item.
        GridError: what the scorer raises.
    """
    lm = GradedLM(scorer, asked, journal, progress)
    # Not simple_evaluate, which asks git, pip and the driver about this machine: seconds, and nobody's business.
    loaded = TaskManager(include_defaults=False).load([_config(one) for one in asked])
    found = evaluate(lm, loaded, bootstrap_iters=0, log_samples=True)
    samples: Mapping[str, list[dict[str, Any]]] = found["samples"]
    return {one.label: _results(one, samples[one.label]) for one in asked}


def _config(asked: Asked) -> dict[str, Any]:
    """The task with our items in place of its file's, which are the public ones."""
    docs = Dataset.from_list([dict(item) for item in asked.items])
    return {**asked.file.config(), "task": asked.label, "custom_dataset": lambda **_: {"test": docs}}


def _results(asked: Asked, samples: list[dict[str, Any]]) -> list[ItemResult]:
    samples = sorted(samples, key=lambda sample: sample["doc_id"])
    if [sample["doc_id"] for sample in samples] != list(range(len(asked.items))):
        raise LeaderboardError(f"{VERSION} left out items of {asked.label}.")
    results = []
    for item, sample in zip(asked.items, samples, strict=True):
        answers = sample["filtered_resps"]
        logliks = [one[0] if isinstance(one, tuple | list) else one for one in answers]
        result = result_of(asked.file.kind, item, logliks)
        if asked.file.kind == "choice" and "acc" in sample and sample["acc"] != result.points:
            raise LeaderboardError(
                f"{VERSION} counts an item of {asked.label} as {sample['acc']}, we as {result.points}."
            )
        results.append(result)
    return results


class GradedLM(TemplateLM):
    """lm_eval's interface to a model, item by item through the journal."""

    def __init__(self, scorer: Scorer, asked: Sequence[Asked], journal: Journal, progress: OnItems) -> None:
        super().__init__()
        self._scorer = scorer
        self.tokenizer = scorer.tokenizer
        self._digests = {one.label: [digest_of(item) for item in one.items] for one in asked}
        self._journal = journal
        self._progress = progress
        self._total = sum(map(len, self._digests.values()))
        self._done = 0

    @property
    def eot_token_id(self) -> int:
        """What stands before a text."""
        known = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id)
        return next((one for one in known if one is not None), 0)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Tokens of a text, with nothing around them."""
        return list(self.tokenizer.encode(string, add_special_tokens=False))

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Of each continuation after its context. Whether it is the greedy one is not asked by any of our metrics."""
        found = self._all(requests, lambda instance: self._continuation(*instance.args))
        return [(nats, False) for nats in found]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Of each whole text."""
        return self._all(requests, lambda instance: self._text(*instance.args))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """No task that we take asks for it (taskfile.py)."""
        raise LeaderboardError("A model is graded by likelihoods; tasks that generate are not taken.")

    def _loglikelihood_tokens(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
        raise LeaderboardError("lm_eval asked for likelihoods of tokens; it goes by way of texts here.")

    def _all(self, requests: list[Instance], rows_of: Callable[[Instance], list[Row] | float]) -> list[float]:
        """Nats of each request; an item's requests are scored and kept together."""
        items: dict[tuple[str, int], list[Instance]] = defaultdict(list)
        for instance in requests:
            items[str(instance.task_name), int(instance.doc_id or 0)].append(instance)
        waiting: list[tuple[tuple[str, int], list[list[Row] | float]]] = []
        for key, instances in items.items():
            if self._kept(key) is None:
                instances.sort(key=lambda one: one.idx)
                waiting.append((key, [rows_of(one) for one in instances]))
            else:
                self._done += 1
        self._progress(self._done, self._total)
        waiting.sort(key=lambda one: _tokens(one[1]), reverse=True)  # what takes the most memory fails first, if at all
        for group in _groups(waiting):
            self._score(group)
        self._journal.flush()
        places = {id(one): at for instances in items.values() for at, one in enumerate(instances)}
        kept = {key: self._kept(key) or [] for key in items}
        return [kept[str(one.task_name), int(one.doc_id or 0)][places[id(one)]] for one in requests]

    def _kept(self, key: tuple[str, int]) -> list[float] | None:
        return self._journal.get(key[0], self._digests[key[0]][key[1]])

    def _score(self, group: Sequence[tuple[tuple[str, int], list[list[Row] | float]]]) -> None:
        rows = [row for _, parts in group for part in parts if not isinstance(part, float) for row in part]
        scores = iter(self._scorer.logprobs([row for row, _ in rows], [start for _, start in rows]) if rows else ())
        for (label, number), parts in group:
            logliks = [
                part if isinstance(part, float) else sum(float(next(scores).logprobs.double().sum()) for _ in part)
                for part in parts
            ]
            bounded = [min(0.0, max(LOWEST, one)) for one in logliks]
            self._journal.add(label, self._digests[label][number], bounded)
            self._done += 1
            self._progress(self._done, self._total)

    def _continuation(self, context: str, continuation: str) -> list[Row]:
        before, after = self._encode_pair(context, continuation)
        if not after:  # the tokenizer made one token of the context's end and the continuation
            before, after = before[:-1], before[-1:]
        row = [self.prefix_token_id, *before, *after] if after else [self.prefix_token_id] * 2
        row = row[-self._scorer.max_length :]
        return [(row, max(1, len(row) - max(1, len(after))))]

    def _text(self, text: str) -> list[Row] | float:
        """The text's windows; or its log-likelihood, where the tokenizer does not keep what it says.

        A tokenizer that drops letters would make every text short and likely: such a text counts as not compressed.
        """
        tokens = self.tok_encode(text)
        back = self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if not tokens or back.strip() != text.strip():
            return lost_text(text)
        windows = get_rolling_token_windows(tokens, self.prefix_token_id, self._scorer.max_length - 1, 1)
        rows = []
        for before, after in map(make_disjoint_window, windows):
            rows.append(([*before, *after], len(before)))
        return rows


def _tokens(parts: Sequence[list[Row] | float]) -> int:
    return sum(len(row) for part in parts if not isinstance(part, float) for row, _ in part)


def _groups(waiting: list[tuple[tuple[str, int], list[list[Row] | float]]]) -> Any:
    """Items that are scored at once."""
    group: list[tuple[tuple[str, int], list[list[Row] | float]]] = []
    held = 0
    for one in waiting:
        size = _tokens(one[1])
        if group and held + size > TOKENS_AT_ONCE:
            yield group
            group, held = [], 0
        group.append(one)
        held += size
    if group:
        yield group
