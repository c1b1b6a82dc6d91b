"""From token ids to text, piece by piece: whole characters only, and stop strings wherever they are cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

CONTEXT_TOKENS: Final = 6  # of the prompt decoded along, so that a leading space is kept or dropped as it should be
UNFINISHED: Final = "\ufffd"  # what tokenizers give for bytes that are no whole character yet


class Detokenizer:
    """Turns tokens into text as they come.

    A token may hold part of a character, and how it is spelled may depend on the one before; so the newest tokens are
    decoded together with some that are known, and only what is new and whole is given out.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int]) -> None:
        self._decode = tokenizer.decode
        self._ids = list(prompt[-CONTEXT_TOKENS:])
        self._known = 0  # decoding starts here
        self._told = len(self._ids)  # text up to here has been given out
        self._prefix = self._text(0, self._told)

    def add(self, token: int) -> str:
        """The text that became whole with this token; often a word, sometimes nothing."""
        self._ids.append(token)
        text = self._text(self._known, len(self._ids))
        if text.endswith(UNFINISHED) or len(text) <= len(self._prefix):
            return ""
        piece = text[len(self._prefix) :]
        self._known, self._told = self._told, len(self._ids)
        self._prefix = self._text(self._known, self._told)
        return piece

    def rest(self) -> str:
        """What is left at the end: characters that never became whole."""
        text = self._text(self._known, len(self._ids))
        return text[len(self._prefix) :]

    def _text(self, start: int, end: int) -> str:
        return self._decode(self._ids[start:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)


class StopFinder:
    """Finds the first stop string in a stream of pieces, holding back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.found = False

    def add(self, piece: str) -> str:
        """What can be given out for sure; sets ``found`` when a stop string is complete (it is not given out)."""
        if not self._stops:
            return piece
        text = self._held + piece
        ends = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self.found, self._held = True, ""
            return text[: min(ends)]
        keep = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that ``stop`` begins with, short of all of it."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
