"""Short stories: two characters, a place, one plot or two, and an end that looks back."""

import random
from collections.abc import Iterator

from gridllm.demo_model.holdout import Split, allowed, draw_pair
from gridllm.demo_model.plots import PLOTS, Plot
from gridllm.demo_model.words import BOYS, FOODS, GIRLS, KINDS, MORALS, PLACES, TIMES, TRAITS

__all__ = ["Story", "tell"]

OPENINGS = (
    "Once upon a time, there was {a_trait} {kind} named {name}, who lived {place}.",
    "Once upon a time, {a_trait} {kind} named {name} lived {place}.",
    "Once upon a time, {place}, there lived {a_trait} {kind} called {name}.",
    "Once upon a time there was {a_kind} named {name}. {He} lived {place}.",
    "Long ago, {a_trait} {kind} named {name} lived {place}.",
    "There once was {a_kind} called {name} who lived {place}.",
    "{name} was {a_trait} {kind} who lived {place}.",
    "This is the story of {name}, {a_trait} {kind} who lived {place}.",
)
OPENING_WEIGHTS = (3, 3, 2, 2, 1, 1, 1, 1)
BECAUSE = (
    "{He} was so {trait} that {habit}.",
    "{name} was {trait}, so {habit}.",
    "Everyone knew that {name} was {trait}: {habit}.",
)
BRIDGES = (
    "But that is not the end of the story.",
    "The two stayed friends, and soon there was more to tell.",
    "Some weeks went by.",
    "After that, {name} and {friend} went everywhere together.",
    "But the year was not over yet.",
)
NUMBERS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")


class Story:
    """The cast of one story: every slot that its sentences may use, drawn once."""

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng, self.split = rng, split
        self.kind, place = draw_pair(rng, split, KINDS, tuple(PLACES))
        trait = rng.choice(tuple(TRAITS))
        friend_kind = rng.choice([kind for kind in KINDS if kind != self.kind])
        self.slots = {"kind": self.kind, "fkind": friend_kind, "place": place, "ref": PLACES[place], "trait": trait}
        self.slots |= {"a_kind": article(self.kind), "a_trait": article(trait), "a_fkind": article(friend_kind)}
        self._name_both()
        self.slots["habit"] = TRAITS[trait].format(**self.slots)

    def _name_both(self) -> None:
        """Names and the pronouns that go with them; the friend's slots start with f."""
        first, second = self.rng.sample(GIRLS + BOYS, 2)
        for prefix, name_slot, name in (("", "name", first), ("f", "friend", second)):
            he, him, his = ("she", "her", "her") if name in GIRLS else ("he", "him", "his")
            self.slots |= {name_slot: name, f"{prefix}he": he, f"{prefix}him": him, f"{prefix}his": his}
        self.slots |= {"He": self.slots["he"].capitalize(), "His": self.slots["his"].capitalize()}

    def chapter(self, plot: Plot) -> Iterator[str]:
        """The sentences of one plot, one wording a beat."""
        slots = self.slots | dict(zip(plot.fields, self.rng.choice(plot.rows), strict=True))
        slots |= self._numbers() | self._times() | {"food": self.rng.choice(FOODS)}
        for field in plot.fields:
            slots[field] = slots[field].format(**slots)
        slots["Boast"] = upper_first(slots.get("boast", ""))
        slots["noise_word"] = slots.get("noise", "").rpartition(" ")[2]
        for wordings in plot.beats:
            yield upper_first(self.rng.choice(wordings).format(**slots))

    def _times(self) -> dict[str, str]:
        time = self.rng.choice(TIMES)
        later = self.rng.choice(("The next morning", "After a while", "On the fourth day", "At last"))
        return {"time": time, "time_low": time[0].lower() + time[1:], "Time_later": later}

    def _numbers(self) -> dict[str, str]:
        """Counts that add up; never a subtraction of the other split."""
        pairs = [(a, b) for a in range(3, 11) for b in range(2, a - 1) if allowed(self.split, "-", a, b)]
        total, given = self.rng.choice(pairs)
        return {"total": str(total), "given": str(given), "given_words": NUMBERS[given], "left": str(total - given)}

    def sentences(self) -> Iterator[str]:
        """Opening, one chapter or two, and an end."""
        chapters = self.rng.sample(PLOTS, 2 if self.rng.random() < 0.25 else 1)
        yield self.rng.choices(OPENINGS, OPENING_WEIGHTS)[0].format(**self.slots)
        if self.rng.random() < 0.5:
            yield self.rng.choice(BECAUSE).format(**self.slots)
        for index, plot in enumerate(chapters):
            if index:
                yield self.rng.choice(BRIDGES).format(**self.slots)
            yield from self.chapter(plot)
        yield self.rng.choice((*MORALS, chapters[-1].lesson, chapters[-1].lesson)).format(**self.slots)


def article(noun: str) -> str:
    """The noun behind its indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def upper_first(sentence: str) -> str:
    """The sentence with a capital first letter."""
    return sentence[:1].upper() + sentence[1:]


def tell(story: Story) -> str:
    """The story as one paragraph."""
    return " ".join(story.sentences())
