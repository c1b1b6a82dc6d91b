"""How likely a model finds given texts, token by token: what graders ask, of a model here or on the grid.

``local_scorer.LocalScorer`` runs a model from a folder; ``gridllm_client.scoring.ChainScorer`` one on the grid's nodes.
In float32 both give the same within 1e-5. Neither ever holds the logits of a whole long text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import torch

from gridllm.errors import ModelError, UsageError
from gridllm.models.families import position_limit

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

LOGITS_BYTES: Final = 128 * 1024 * 1024  # of the logits [tokens, vocabulary] that exist at once, in float32
FORWARD_TOKENS: Final = 2048  # of one pass, padding included
DEFAULT_LENGTH: Final = 2048  # tokens, where a config does not say how long its texts may be


class Scores(NamedTuple):
    """Of one row: the tokens from its start on, given all before them."""

    logprobs: torch.Tensor  # [row - start] float32, CPU: natural log of the token's probability
    greedy: torch.Tensor  # [row - start] bool, CPU: it was the likeliest token


class Scorer(Protocol):
    """A model that can be asked how likely it finds given texts."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        ...

    @property
    def max_length(self) -> int:
        """Tokens that a row may have."""
        ...

    def logprobs(self, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> list[Scores]:
        """Scores of each row, in their order; blocks the calling thread.

        Args:
            rows: token ids; each row at least 2, at most ``max_length`` of them.
            starts: per row, the first token that is scored; at least 1, as the first token follows nothing.

        Raises:
            UsageError: a row or start out of these bounds.
            ModelError: the model gives no finite probability to a token that is scored.
            GridError: the grid could not run it.
        """
        ...


def length_of(config: PreTrainedConfig) -> int:
    """Tokens that a text may have for a model, by its config."""
    given = position_limit(config) or getattr(config, "max_position_embeddings", None)
    return given if isinstance(given, int) and given > 1 else DEFAULT_LENGTH


def tokens_at_once(vocabulary: int) -> int:
    """Positions whose logits may exist together."""
    return max(1, min(FORWARD_TOKENS, LOGITS_BYTES // (4 * vocabulary)))


def batches(lengths: Sequence[int], tokens: int, rows: int | None = None) -> Iterator[list[int]]:
    """Which rows to run together: rows of like length, at most ``tokens`` with their padding, and ``rows`` of them.

    A row that is longer than ``tokens`` comes alone. Yields indices into ``lengths``; each comes once.
    """
    batch: list[int] = []
    for at in sorted(range(len(lengths)), key=lambda at: (lengths[at], at)):
        full = (len(batch) + 1) * lengths[at] > tokens or len(batch) == rows
        if batch and full:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def scores_of(logits: torch.Tensor, targets: torch.Tensor) -> Scores:
    """Scores of tokens [n], by the logits [n, vocabulary] of where they stand."""
    logits = logits.float()
    chosen = logits.gather(1, targets[:, None])[:, 0]
    return Scores((chosen - logits.logsumexp(1)).cpu(), (logits.argmax(1) == targets).cpu())


def joined(parts: Sequence[Scores]) -> Scores:
    """Scores of consecutive stretches of one row as one."""
    return Scores(torch.cat([part.logprobs for part in parts]), torch.cat([part.greedy for part in parts]))


def checked(scores: Scores, start: int) -> Scores:
    """The same, once they are known to be numbers.

    Raises:
        ModelError: they are not.
    """
    bad = (~torch.isfinite(scores.logprobs)).nonzero()
    if len(bad):
        at = int(bad[0, 0])
        raise ModelError(
            f"The model gives token {start + at} of a text the log-probability {float(scores.logprobs[at])}: its "
            "weights do not compute in this dtype."
        )
    return scores


def check_rows(rows: Sequence[Sequence[int]], starts: Sequence[int], vocabulary: int, longest: int) -> None:
    """Refuse what no model can score.

    Raises:
        UsageError: says what.
    """
    for row, start in zip(rows, starts, strict=True):
        if not 1 <= start < len(row):
            raise UsageError(f"Scores from token {start} of {len(row)} cannot be given; begin at 1 to {len(row) - 1}.")
        if len(row) > longest:
            raise UsageError(f"A row of {len(row)} tokens exceeds the {longest} that the model reads; cut it.")
        if not 0 <= min(row) <= max(row) < vocabulary:
            raise UsageError(f"A row holds the token {max(row)}, and the model knows 0 to {vocabulary - 1}.")
