"""What the demo model knows of the grid: a table of topics, told as paragraphs or asked in dialogues."""

import random

from gridllm.demo_model.fact_table import FACTS, Fact
from gridllm.demo_model.holdout import Split, draw_pair

__all__ = ["fact_question", "facts_text"]

QUESTIONS = (
    "What is {term}?",
    "Can you tell me what {term} is?",
    "Explain {term} to me.",
    "Tell me about {term}.",
    "What do you know about {term}?",
    "In one sentence, what is {term}?",
    "I have heard of {term}. What is it?",
    "Please explain what {term} is.",
)
HEADS = (
    "A note about the grid.",
    "How the grid works.",
    "From the handbook of the grid.",
    "Some facts about the grid.",
    "For new volunteers.",
)
TERMS = {fact.term: fact for fact in FACTS}


def fact_question(rng: random.Random, split: Split) -> tuple[str, str]:
    """A question about one topic and its answer; the pair (topic, wording) decides the split."""
    term, frame = draw_pair(rng, split, tuple(TERMS), QUESTIONS)
    fact = TERMS[term]
    answer = fact.meaning if frame.startswith("In one") else f"{fact.meaning} {rng.choice(fact.details)}"
    return frame.format(term=term), answer


def facts_text(rng: random.Random, split: Split) -> str:
    """A paragraph on two or three topics; every two neighbours are a pair of the split."""
    first, second = draw_pair(rng, split, tuple(TERMS), tuple(TERMS))
    parts = [rng.choice(HEADS), _told(rng, TERMS[first]), _told(rng, TERMS[second])]
    return " ".join(parts if rng.random() < 0.7 else parts[1:])


def _told(rng: random.Random, fact: Fact) -> str:
    """The meaning and some of the details, in random order."""
    details = rng.sample(fact.details, rng.randint(1, len(fact.details)))
    return " ".join((fact.meaning, *details))
