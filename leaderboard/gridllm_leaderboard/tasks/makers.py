"""What the built-in tasks ask: three sides of what the demo model's corpus is about.

Each maker turns seeded random numbers into one item. There are more items of each kind than all rounds together will
ask for (stories and contexts are put together of many parts); single sums and facts do come again, in other company.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final, Literal

from gridllm.demo_model.corpus import story_text
from gridllm.demo_model.facts import HEADS, TERMS
from gridllm.demo_model.sums import WORDS, Sum, draw_sum
from gridllm_leaderboard.results import Line
from gridllm_leaderboard.tasks.generated import Maker

CHOICES: Final = 4
DEFINED: Final = tuple(sorted(term for term, fact in TERMS.items() if " is " in fact.meaning))


def story(rng: random.Random) -> Line:
    """A story of the held-out split: hero and place meet in no training document."""
    return {"text": story_text(rng, "held_out")}


def small_sum(rng: random.Random) -> Line:
    """Two to four sums that are worked out, and one whose result is asked for."""
    in_words = rng.random() < 0.5
    split: Literal["train", "held_out"] = "train" if rng.random() < 0.5 else "held_out"
    *worked, asked = (draw_sum(rng, split) for _ in range(rng.randint(3, 5)))
    query = " ".join([*(_told(one, in_words) for one in worked), _asked(asked, in_words)])
    return _with_choices(rng, query, f"{asked[3]}.", [f"{wrong}." for wrong in _near(rng, asked)])


def fact(rng: random.Random) -> Line:
    """What a topic is, or what else is true of it, among what is true of others."""
    terms = rng.sample(DEFINED, 2 + CHOICES)
    before, topic, others = terms[:2], TERMS[terms[2]], [TERMS[term] for term in terms[3:]]
    head = " ".join([rng.choice(HEADS), *(TERMS[term].meaning for term in before[: rng.randint(0, 2)])])
    if rng.random() < 0.5:
        subject, definition = _cut(topic.meaning)
        return _with_choices(rng, f"{head} {subject} is", definition, [_cut(other.meaning)[1] for other in others])
    wrong = [rng.choice(other.details) for other in others]
    return _with_choices(rng, f"{head} {topic.meaning}", rng.choice(topic.details), wrong)


MAKERS: Final[Mapping[str, Maker]] = {"stories": story, "sums": small_sum, "facts": fact}


def _told(one: Sum, in_words: bool) -> str:
    op, a, b, result = one
    return f"{_asked(one, in_words)} {result}." if in_words else f"{a} {op} {b} = {result}."


def _asked(one: Sum, in_words: bool) -> str:
    op, a, b, _ = one
    return f"What is {a} {WORDS[op]} {b}? {a} {WORDS[op]} {b} is" if in_words else f"{a} {op} {b} ="


def _near(rng: random.Random, one: Sum) -> list[int]:
    """Wrong results that somebody might have got."""
    _, a, b, right = one
    near = {right - 2, right - 1, right + 1, right + 2, right + 10, a + b, abs(a - b), a * b}
    return rng.sample(sorted(wrong for wrong in near if wrong >= 0 and wrong != right), CHOICES - 1)


def _cut(meaning: str) -> tuple[str, str]:
    """``A peer is one computer …`` → ``A peer``, ``one computer …``."""
    subject, _, definition = meaning.partition(" is ")
    return subject, definition


def _with_choices(rng: random.Random, query: str, right: str, wrong: list[str]) -> Line:
    choices = [right, *wrong]
    rng.shuffle(choices)
    return {"query": query, "choices": choices, "gold": choices.index(right)}
