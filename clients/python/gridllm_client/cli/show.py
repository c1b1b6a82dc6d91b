"""What generating looks like: text on stdout, everything else on stderr."""

from __future__ import annotations

import sys
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from gridllm_client.generation import Generation


class Progress:
    """A status line until the first word, then the text; remarks in between. Safe from any thread."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, soft_wrap=True, highlight=False)
        self._status: Status | None = None
        self._lock = threading.Lock()
        self._midline = False  # text was written and the line is not ended

    def phase(self, sentence: str) -> None:
        """What is being waited for: until something else is, or a line of its own where no terminal is."""
        from rich.text import Text

        if not self._console.is_terminal:
            self._console.print(Text(sentence + "…"))
            return
        with self._lock:
            if self._status is None:
                self._status = self._console.status(Text(sentence + "…"))
                self._status.start()
            else:
                self._status.update(Text(sentence + "…"))

    def prompt(self, text: str) -> None:
        """The prompt, dimmed, before what is generated."""
        self._quiet()
        with self._lock:
            sys.stdout.write(f"\x1b[2m{_harmless(text)}\x1b[0m" if sys.stdout.isatty() else text)
            sys.stdout.flush()
            self._midline = True

    def piece(self, text: str) -> None:
        """A piece of the text."""
        self._quiet()
        with self._lock:
            sys.stdout.write(_harmless(text) if sys.stdout.isatty() else text)
            sys.stdout.flush()
            self._midline = True

    def remark(self, sentence: str) -> None:
        """Something that happened, on a line of its own."""
        from rich.text import Text

        with self._lock:
            if self._midline and sys.stdout.isatty():
                sys.stdout.write("\n")
                sys.stdout.flush()
            self._console.print(Text(f"gridllm: {sentence}", style="yellow"))

    def chain(self, made: Generation) -> None:
        """Which node served which blocks, and how fast it went."""
        self._console.print(*chain_lines(made), sep="\n", markup=False)

    def cost(self, made: Generation, balance: int | None, *, always: bool) -> None:
        """What it cost; unless ``always``, on terminals only."""
        if always or self._console.is_terminal:
            self._console.print(cost_line(made, balance), style="dim", markup=False)

    def end(self) -> None:
        """End the line, and the status."""
        self._quiet()
        with self._lock:
            if self._midline:
                sys.stdout.write("\n")
                sys.stdout.flush()
            self._midline = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _quiet(self) -> None:
        with self._lock:
            if self._status is not None:
                self._status.stop()
                self._status = None


@contextmanager
def waiting(console: Console, sentence: str) -> Iterator[Status]:
    """A spinner for as long as the block lasts; a line where no terminal is."""
    if not console.is_terminal:
        console.print(sentence)
    with console.status(sentence) as status:
        yield status


def chain_lines(made: Generation) -> list[str]:
    """The chain and the speed, for people."""
    from gridllm.quantities import count_things

    lines = [f"  blocks {start:>3}:{end:<3} on {peer}" for peer, start, end in made.chain]
    speed = f"{made.tokens_per_s:.1f} tokens/s" if len(made.ids) > 1 else f"{len(made.ids)} token"
    tokens = count_things(len(made.ids), "token")
    lines.append(f"  {tokens} in {made.seconds:.2f} s: first after {made.first_token_s:.2f} s, then {speed}")
    return lines


def cost_line(made: Generation, balance: int | None) -> str:
    """``cost 0.0123 credits; balance 4.2 (…)``; ``balance`` in micro-credits, None: not known."""
    from gridllm.quantities import count_credits, spell_credits

    # How much of the cost is in the books already is not known here.
    later = " (nodes may not have handed this cost in yet)" if made.spent else ""
    known = "" if balance is None else f"; balance {spell_credits(balance)}{later}"
    return f"  cost {count_credits(made.spent)}{known}"


def _harmless(text: str) -> str:
    """Without control characters, which a model could use to repaint somebody's terminal."""
    return "".join(letter for letter in text if letter in "\n\t" or unicodedata.category(letter) != "Cc")
