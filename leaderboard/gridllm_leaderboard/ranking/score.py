"""Scores with their 95% intervals, and differences of scores on the same items.

score = 100 × Σ weight · points / Σ weight, points being a task's mean over its items. Two models are compared by the
paired bootstrap: both on the same resampled items, so that what makes items easy or hard for both cancels out (Koehn,
"Statistical significance tests for machine translation evaluation", EMNLP 2004).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.ranking.estimate import Estimate
from gridllm_leaderboard.ranking.measured import Measured, Model, measured
from gridllm_leaderboard.ranking.resample import (
    BIT_UNITS,
    POINT_UNITS,
    RESAMPLES,
    Floats,
    in_units,
    interval,
    resampled_sums,
)
from gridllm_leaderboard.results import ItemResult


@dataclass(frozen=True, slots=True)
class Scored:
    """One model's score, 0 to 100, with its interval; and each task's value (bits per byte, or share right)."""

    score: float
    low: float
    high: float
    tasks: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Scores:
    """Several models on the same items."""

    scored: Sequence[Scored]
    resampled: Floats  # [RESAMPLES, models]: the scores on each resample

    def lead(self, model: int, over: int) -> Estimate:
        """How far one model's score is above another's on the same items; models by their index."""
        low, high = interval(self.resampled[:, [model]] - self.resampled[:, [over]])
        return Estimate(self.scored[model].score - self.scored[over].score, float(low[0]), float(high[0]))


def score(tasks: Mapping[str, Sequence[ItemResult]], weights: Mapping[str, int], draw: str = "") -> Scored:
    """One model's score.

    Args:
        tasks: results by task, of exactly the tasks in ``weights``.
        draw: id of the round's draw, from which the resamples follow.

    Raises:
        LeaderboardError: tasks are lacking or unknown, or results cannot be used.
    """
    return scores([{task: measured(results) for task, results in tasks.items()}], weights, draw).scored[0]


def scores(models: Sequence[Model], weights: Mapping[str, int], draw: str) -> Scores:
    """Scores of several models, all on the same items.

    Raises:
        LeaderboardError: a model lacks a task, has one too many, or was measured on other items.
    """
    total = sum(weights.values())
    points = np.zeros(len(models))
    resampled = np.zeros((RESAMPLES, len(models)))
    values: dict[str, list[Estimate]] = {}
    for task in sorted(weights):
        found = _of_task(models, weights, task)
        values[task], means, means_resampled = _task_scores(found, task, draw)
        points += weights[task] * means
        resampled += weights[task] * means_resampled
    points, resampled = points * 100.0 / total, resampled * 100.0 / total
    low, high = interval(resampled)
    scored = [
        Scored(float(points[i]), float(low[i]), float(high[i]), {task: values[task][i] for task in sorted(weights)})
        for i in range(len(models))
    ]
    return Scores(scored, resampled)


def _of_task(models: Sequence[Model], weights: Mapping[str, int], task: str) -> list[Measured]:
    for model in models:
        if model.keys() != weights.keys():
            odd = ", ".join(sorted(model.keys() ^ weights.keys()))
            raise LeaderboardError(f"A model's results are not of the round's tasks; they differ in: {odd}.")
    found = [model[task] for model in models]
    if any((one.items, one.bits is None) != (found[0].items, found[0].bits is None) for one in found):
        raise LeaderboardError(f"Two models' results of the task {task!r} are of different items.")
    return found


def _task_scores(found: Sequence[Measured], task: str, draw: str) -> tuple[list[Estimate], Floats, Floats]:
    """Each model's value; mean points, [models]; mean points on each resample, [RESAMPLES, models]."""
    items, models = len(found[0].items), len(found)
    points = in_units(np.stack([one.points for one in found], axis=1), POINT_UNITS)  # [items, models]
    columns = [points]
    texts = [one.bits for one in found if one.bits is not None]
    if texts:
        columns += [in_units(np.stack(texts, axis=1), BIT_UNITS), found[0].sizes[:, None]]
    sums = resampled_sums(draw, task, np.concatenate(columns, axis=1))
    means, resampled = points.sum(axis=0) / (items * POINT_UNITS), sums[:, :models] / (items * POINT_UNITS)
    shown = sums[:, models : 2 * models] / BIT_UNITS / sums[:, [-1]] if texts else resampled
    low, high = interval(shown)
    values = [Estimate(one.value, float(low[i]), float(high[i])) for i, one in enumerate(found)]
    return values, means, resampled
