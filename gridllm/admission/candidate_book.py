"""A candidate's book: which authorities measured it, which to leave alone for a while, and why it waits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gridllm.admission.cards import AuthorityCard
from gridllm.admission.certificate import MEASUREMENT_LIFE_S
from gridllm.admission.outcome import NotAdmittedHere
from gridllm.errors import ClockSkew, Refusal, TooSoon

MEASURED_S: Final = MEASUREMENT_LIFE_S - 120.0  # afterwards a measurement may be too old when it is certified
FIRST_REST_S: Final = 10.0  # after the first failure of an authority; twice that after each further one
LONGEST_REST_S: Final = 120.0
TOO_SOON_REST_S: Final = 60.0  # it has counted this machine's tries: asking often is of no use


@dataclass(frozen=True, slots=True)
class Taken:
    """One authority's measurement of this machine."""

    card: AuthorityCard
    raw: bytes  # signed
    at: float  # monotonic seconds


@dataclass(slots=True)
class Rounds:
    """Keys are maintainers; times are monotonic seconds."""

    maintainers: Sequence[str]
    threshold: int
    taken: dict[str, Taken] = field(default_factory=dict)
    rest_until: dict[str, float] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)  # what each said last
    denials: dict[str, NotAdmittedHere] = field(default_factory=dict)  # who said no, and why
    answering: set[str] = field(default_factory=set)  # whose authority answered when it was looked for last

    def measured(self, card: AuthorityCard, raw: bytes, now: float) -> None:
        """An authority measured this machine, and signed."""
        self.taken[card.maintainer] = Taken(card, raw, now)
        for book in (self.rest_until, self.failures, self.refusals):
            book.pop(card.maintainer, None)

    def failed(self, maintainer: str, error: Exception, now: float) -> None:
        """An authority could not be used this time."""
        count = self.failures.get(maintainer, 0)
        self.failures[maintainer] = count + 1
        rest_s = min(LONGEST_REST_S, FIRST_REST_S * 2**count)
        self.rest_until[maintainer] = now + (max(rest_s, TOO_SOON_REST_S) if isinstance(error, TooSoon) else rest_s)
        if isinstance(error, Refusal):
            self.refusals[maintainer] = error
        else:
            self.refusals.pop(maintainer, None)

    def denied(self, maintainer: str, verdict: NotAdmittedHere) -> None:
        """An authority does not admit this machine; one alone may be wrong, or lie.

        Raises:
            NotAdmittedHere: too few of those that answer are left, so that is that.
        """
        self.denials[maintainer] = verdict
        for book in (self.taken, self.refusals):
            book.pop(maintainer, None)
        self.check_denials()

    def check_denials(self) -> None:
        """Raises NotAdmittedHere when too few authorities that answer have not said no."""
        if self.denials and len(self.answering - self.denials.keys()) < self.threshold:
            measured = [one for one in self.denials.values() if one.figures is not None]
            raise (measured or list(self.denials.values()))[0]

    def rests(self, maintainer: str, now: float) -> bool:
        """Whether this authority is left alone at present."""
        return self.rest_until.get(maintainer, 0.0) > now

    def usable(self, now: float) -> list[Taken]:
        """Measurements that can be certified now, a threshold of them at most, sorted by maintainer."""
        self.taken = {key: one for key, one in self.taken.items() if now < one.at + MEASURED_S}
        fresh = [self.taken[key] for key in sorted(self.taken) if key in self.answering and not self.rests(key, now)]
        return fresh[: self.threshold]

    def hopeless(self) -> Refusal | None:
        """A refusal that time does not mend, once too few authorities are left who might not say it."""
        skewed = [one for one in self.refusals.values() if isinstance(one, ClockSkew)]
        return skewed[0] if len(skewed) > len(self.maintainers) - self.threshold else None

    def why(self, pause_s: float | None = None) -> str:
        """Why this machine waits, in one sentence, and when it tries again, if it does."""
        silent = [short(key) for key in self.maintainers if key not in self.answering]
        heard: dict[str, Exception] = {**self.refusals, **self.denials}
        said = [f"{short(key)} says: {heard[key]}" for key in self.maintainers if key in heard]
        sentence = f"{self.threshold} of {len(self.maintainers)} authorities must measure this machine"
        if silent:
            count = len(self.maintainers) - len(silent)
            answers = f"{count or 'none'} {'answers' if count <= 1 else 'answer'}"
            does = "does" if len(silent) == 1 else "do"
            sentence += f"; {answers}, {_listed(silent)} {does} not"
        if pause_s is not None:
            said.append(f"trying again in {pause_s:.0f} s")
        return f"{'; '.join([sentence, *said]).rstrip('.')}."


def short(maintainer: str) -> str:
    """How people are shown a maintainer's key."""
    return f"{maintainer[:8]}…"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
