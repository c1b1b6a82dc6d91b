"""Small sums: bare, in words, and as tiny stories with a count."""

import random
from functools import cache

from gridllm.demo_model.holdout import Split, allowed
from gridllm.demo_model.words import BOYS, FOODS, GIRLS

__all__ = ["Sum", "all_sums", "counting_text", "sum_question", "sums_text"]

Sum = tuple[str, int, int, int]
"""Operator (`+`, `-` or `x`), the two numbers, the result."""

WORDS = {"+": "plus", "-": "minus", "x": "times"}
STORIES = {
    "+": (
        "{name} has {a} {food}. {friend} gives {him} {b} more. Now {name} has {result} {food}.",
        "There are {a} {food} in the basket. {name} adds {b} more. Now there are {result} {food}.",
    ),
    "-": (
        "{name} has {a} {food}. {He} eats {b} of them. Now {name} has {result} {food}.",
        "There are {a} {food} on the table. {friend} takes {b}. Now there are {result} {food}.",
    ),
    "x": (
        "{name} has {a} bags with {b} {food} each. That makes {result} {food}.",
        "There are {a} plates with {b} {food} each. Together that is {result} {food}.",
    ),
}
QUESTIONS = (
    "What is {a} {op} {b}?",
    "How much is {a} {op} {b}?",
    "What is {a} {word} {b}?",
    "{a} {op} {b} = ?",
    "{a} {op} {b}",
    "{a}{op}{b}?",
    "What is {a}{op}{b}?",
    "Can you tell me what {a} {word} {b} is?",
)


@cache
def all_sums(split: Split) -> dict[str, tuple[Sum, ...]]:
    """Every sum of the split by operator: additions to 12 + 12, subtractions from 15, the times table to 9."""
    every: dict[str, list[Sum]] = {
        "+": [("+", a, b, a + b) for a in range(13) for b in range(13)],
        "-": [("-", a, b, a - b) for a in range(16) for b in range(a + 1)],
        "x": [("x", a, b, a * b) for a in range(1, 10) for b in range(1, 10)],
    }
    return {op: tuple(s for s in sums if allowed(split, *s[:3])) for op, sums in every.items()}


def draw_sum(rng: random.Random, split: Split, least: int = 0) -> Sum:
    """One sum of the split, additions the most often; both numbers at least `least`."""
    op = rng.choices("+-x", (5, 4, 3))[0]
    return rng.choice([s for s in all_sums(split)[op] if min(s[1:]) >= least])


def sums_text(rng: random.Random, split: Split) -> str:
    """Six to twelve lines of one style."""
    style = rng.choice(("bare", "bare", "words", "story"))
    count = rng.randint(6, 12) if style == "bare" else rng.randint(3, 5)
    return " ".join(_one(rng, split, style) for _ in range(count))


def _one(rng: random.Random, split: Split, style: str) -> str:
    op, a, b, result = draw_sum(rng, split, least=2 if style == "story" else 0)
    if style == "bare":
        return f"{a} {op} {b} = {result}."
    if style == "words":
        return f"What is {a} {WORDS[op]} {b}? {a} {WORDS[op]} {b} is {result}."
    name, friend = rng.sample(GIRLS + BOYS, 2)
    he, him = ("she", "her") if name in GIRLS else ("he", "him")
    slots = {"name": name, "friend": friend, "him": him, "He": he.capitalize(), "food": rng.choice(FOODS)}
    return rng.choice(STORIES[op]).format(**slots, a=a, b=b, result=result)


def sum_question(rng: random.Random, split: Split) -> tuple[str, str]:
    """A question and its answer, for a dialogue."""
    op, a, b, result = draw_sum(rng, split)
    question = rng.choice(QUESTIONS).format(a=a, b=b, op=op, word=WORDS[op])
    return question, f"{a} {op} {b} = {result}."


def counting_text(rng: random.Random, split: Split) -> str:
    """Counting up or down in equal steps; the pair (start, step) decides the split."""
    pairs = [(a, s) for a in range(41) for s in (-2, -1, 1, 2, 3, 5, 10) if allowed(split, a, s)]
    start, step = rng.choice(pairs)
    numbers = [n for n in range(start, start + 12 * step, step) if 0 <= n <= 100]
    way = f"up by {step}" if step > 0 else f"down by {-step}"
    return f"Let us count {way}, from {start}: {', '.join(map(str, numbers))}."
