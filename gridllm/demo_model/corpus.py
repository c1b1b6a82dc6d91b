"""The corpus that the demo model is trained and measured on: endless, seeded, in two disjoint splits.

    document(0, "train", 17)      # always the same text
    documents(0, "held_out", 200) # the first 200 held-out documents

Document `index` of a split has its own random generator, so any part of the corpus can be made without the rest.
"""

import random
from collections.abc import Callable, Iterator
from itertools import count

from gridllm.demo_model.dialogue import chat_text
from gridllm.demo_model.facts import facts_text
from gridllm.demo_model.holdout import Split
from gridllm.demo_model.stories import Story, tell
from gridllm.demo_model.sums import counting_text, sums_text

__all__ = ["MIX", "document", "documents"]


def story_text(rng: random.Random, split: Split) -> str:
    """One story with its own cast."""
    return tell(Story(rng, split))


# Kind of document -> its maker and its share of the documents (percent).
MIX: dict[str, tuple[Callable[[random.Random, Split], str], int]] = {
    "story": (story_text, 42),
    "sums": (sums_text, 20),
    "counting": (counting_text, 2),
    "facts": (facts_text, 10),
    "chat": (chat_text, 26),
}


def document(seed: int, split: Split, index: int, kind: str | None = None) -> str:
    """One document; `kind` picks one from `MIX` instead of drawing it."""
    rng = random.Random(f"{seed}/{split}/{index}")
    drawn = rng.choices(list(MIX), [share for _, share in MIX.values()])[0]
    return MIX[kind or drawn][0](rng, split)


def documents(seed: int, split: Split, limit: int | None = None, kind: str | None = None) -> Iterator[str]:
    """The first `limit` documents of the split, or all of an endless stream."""
    for index in count() if limit is None else range(limit):
        yield document(seed, split, index, kind)
