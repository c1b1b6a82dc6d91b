"""Cut real text into a task: ``python -m gridllm_leaderboard.tasks.from_text FILES… --out FOLDER``.

Paragraphs are joined to pieces of about ``--bytes`` bytes; the pieces are shuffled, and a share of them becomes the
public practice items. The rest is the sealed pool: keep ``pool.jsonl`` to yourself.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.results import Line
from gridllm_leaderboard.tasks.folder import write_folder
from gridllm_leaderboard.tasks.taskfile import Metric, TaskFile

PIECE_BYTES: Final = 1000
MOST_SHARED: Final = 0.05  # of the sealed items, with public ones, before the maker is told


def pieces(text: str, size: int = PIECE_BYTES) -> Iterator[str]:
    """Runs of whole paragraphs of at least ``size`` bytes in UTF-8; what is over at the end is left out."""
    run: list[str] = []
    length = 0
    for paragraph in (one.strip() for one in re.split(r"\n\s*\n", text)):
        if not paragraph:
            continue
        run.append(paragraph)
        length += len(paragraph.encode()) + 2
        if length >= size:
            yield "\n\n".join(run)
            run, length = [], 0


def make_task(
    texts: Sequence[str], out: Path, *, name: str, practice: int, size: int = PIECE_BYTES, seed: int | None = None
) -> tuple[int, int]:
    """Write a task's folder; how many items are public and sealed.

    Args:
        seed: of the shuffle; None: nobody can tell which pieces are public.

    Raises:
        LeaderboardError: there is too little text.
        OSError: the folder cannot be written.
    """
    cut = list(dict.fromkeys(piece for text in texts for piece in pieces(text, size)))
    (random.SystemRandom() if seed is None else random.Random(seed)).shuffle(cut)  # noqa: S311  # tests give a seed
    if len(cut) < practice + 2:
        raise LeaderboardError(f"The text makes {len(cut)} pieces of {size} bytes; {practice + 2} are needed.")
    items: list[Line] = [{"text": piece} for piece in cut]
    metric = Metric(metric="bits_per_byte", aggregation="bits_per_byte", higher_is_better=False)
    file = TaskFile(task=name, output_type="loglikelihood_rolling", doc_to_target="text", metric_list=(metric,))
    write_folder(out, file, items[:practice], items[practice:])
    return practice, len(cut) - practice


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description="Cut real text files into a task with practice items and a sealed pool."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="text, in UTF-8")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the task's new folder")
    parser.add_argument("--name", help="of the task; by default the folder's")
    parser.add_argument("--practice", type=int, default=50, help="items that are public (50)")
    parser.add_argument("--bytes", type=int, default=PIECE_BYTES, help=f"of an item, at least ({PIECE_BYTES})")
    asked = parser.parse_args(arguments)
    name = asked.name or re.sub(r"[^a-z0-9_]", "_", asked.out.resolve().name.lower())
    try:
        texts = [file.read_text(encoding="utf-8") for file in asked.files]
        public, sealed = make_task(texts, asked.out, name=name, practice=asked.practice, size=asked.bytes)
        overlap = _overlap(asked.out)
    except (LeaderboardError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"{asked.out}: {public} practice items, {sealed} sealed ones in pool.jsonl\n{overlap}\n")


def _overlap(folder: Path) -> str:
    """How much of the pool the practice items give away. Raises LeaderboardError: the folder cannot be read."""
    from gridllm_leaderboard.contamination import RUN_WORDS, sharing
    from gridllm_leaderboard.tasks.folder import from_folder

    task = from_folder(folder)
    share = sharing(task.pool() or [], task.practice())
    said = f"{share:.0%} of the sealed items have a run of {RUN_WORDS} words in common with a public one"
    return f"{said}; a text that repeats itself less would be better" if share > MOST_SHARED else said


if __name__ == "__main__":
    main()
