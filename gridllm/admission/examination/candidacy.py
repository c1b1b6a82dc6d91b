"""What a candidate brings to its examination, and what it hears of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gridllm.charter.document import ModelEntry
from gridllm.charter.minimums import Role

if TYPE_CHECKING:
    from gridllm.models.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidacy:
    """One machine that wants to take part."""

    entry: ModelEntry  # the model to be served; its shape is computed
    manifest: Manifest  # of that model: holds its config
    dtype: str  # to be served in
    roles: tuple[Role, ...]  # asked for
    device: str  # torch device
    threads: int  # CPU threads to compute with
    memory_bytes: int  # it says it can hold at once
    disk_bytes: int  # free
    upload_mbit_s: float = 0.0  # it claims; 0: no claim
    download_mbit_s: float = 0.0


class Watcher(Protocol):
    """Where news of an examination go; called on the event loop."""

    def stage(self, name: str, done: float) -> None:
        """What is measured now, and the share of the whole that is done, 0 to 1."""
        ...

    def queued(self, place: int, waiting: int) -> None:
        """Others are before this one; ``place`` 1 is next."""
        ...

    def note(self, sentence: str) -> None:
        """Something worth a line: which authority measures, why it waits, what failed and is tried again."""
        ...
