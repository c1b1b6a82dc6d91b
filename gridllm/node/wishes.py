"""What a volunteer asks for, already checked as far as that goes without loading anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gridllm.planning.placement import BlockRange

if TYPE_CHECKING:  # it imports transformers
    from gridllm.models.borrowed import Borrowing


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the volunteer asked for."""

    blocks: BlockRange | None  # None: choose what the grid needs most
    memory_bytes: int | None  # for weights and caches; None: what is free
    cache_tokens: int | None  # None: what fits
    device: str
    dtype: str
    folder: Path | None  # the model's files; None: from the Hub, or from seeds where the charter names no Hub id
    grace_s: float  # how long sessions may go on once the node is told to stop
    cache_dir: Path | None = None  # where fetched weights are kept; None: the settings' folder
    borrowing: Borrowing | None = None  # of a volunteer who follows the champion; None: the model was named
