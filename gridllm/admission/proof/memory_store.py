"""Where the pages of the memory proof lie: in the machine's memory, or on an accelerator."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import psutil
from numpy.typing import NDArray

from gridllm.admission.proof.chase import Words
from gridllm.admission.proof.pages import CHUNK_WORDS, PAGE_BYTES, PAGE_CHUNKS, Chunks
from gridllm.errors import AdmissionError


class PageStore(Protocol):
    """Holds pages; safe for threads that write different ones."""

    words: Words  # all of them, for the chase

    def gather(self, chunks: NDArray[np.int64]) -> Chunks:
        """Copies of these chunks, in this order: [len(chunks), 512]."""
        ...

    def write(self, page: int, data: Chunks) -> None:
        """Keep ``data`` [64, 512] as page ``page``."""
        ...


class HostPages:
    """Pages in one numpy buffer; words are read through a memoryview, with no copy."""

    def __init__(self, pages: int) -> None:
        self._chunks: Chunks = np.empty((pages * PAGE_CHUNKS, CHUNK_WORDS), np.dtype("<u8"))
        self.words: Words = self._chunks.reshape(-1).data

    def gather(self, chunks: NDArray[np.int64]) -> Chunks:
        """See ``PageStore``."""
        return np.take(self._chunks, chunks, axis=0)

    def write(self, page: int, data: Chunks) -> None:
        """See ``PageStore``."""
        self._chunks[page * PAGE_CHUNKS : (page + 1) * PAGE_CHUNKS] = data


class DevicePages:
    """Pages in one tensor on a torch device, made on the CPU and read by small copies.

    Written plainly and tried with torch's own CPU device only: no accelerator was at hand. If the copy of one word from
    a GPU takes 10 µs there, a full chase takes 2 s; at 30 µs it would miss the deadline.
    """

    def __init__(self, pages: int, device: str) -> None:
        import torch  # relays and seeds measure no accelerator and need no torch

        self._torch: Any = torch
        self._chunks = torch.empty((pages * PAGE_CHUNKS, CHUNK_WORDS), dtype=torch.int64, device=device)
        self.words: Words = _DeviceWords(self._chunks.view(-1))

    def gather(self, chunks: NDArray[np.int64]) -> Chunks:
        """See ``PageStore``."""
        at = self._torch.from_numpy(chunks).to(self._chunks.device)
        copied: NDArray[np.int64] = self._chunks.index_select(0, at).cpu().numpy()
        return copied.view(np.uint64)

    def write(self, page: int, data: Chunks) -> None:
        """See ``PageStore``."""
        rows = self._chunks[page * PAGE_CHUNKS : (page + 1) * PAGE_CHUNKS]
        rows.copy_(
            self._torch.from_numpy(np.array(data).view(np.int64))
        )  # a copy of data: scratch and streams are not ours


class _DeviceWords:
    def __init__(self, flat: Any) -> None:
        self._flat = flat

    def __getitem__(self, index: int, /) -> int:
        return int(self._flat[index].item()) % 2**64  # the tensor's words are signed


def allocate(pages: int, device: str) -> PageStore:
    """Room for ``pages`` on a torch device ("cpu", "cuda", "cuda:1", …).

    Raises:
        AdmissionError: the machine or the device has not that much left.
    """
    wanted = pages * PAGE_BYTES
    cpu = device == "cpu"
    # The kernel promises more than it has, and kills us when we fill it: ask first.
    if cpu and wanted > (free := int(psutil.virtual_memory().available)):
        raise AdmissionError(f"{_short(wanted, device)} {free / 2**20:.0f} MiB are free. {_MEND}")
    try:
        return HostPages(pages) if cpu else DevicePages(pages, device)
    except (MemoryError, RuntimeError, AssertionError, ValueError) as error:  # torch's own words for no room, no device
        raise AdmissionError(f"{_short(wanted, device)} {str(error).splitlines()[:1]} {_MEND}") from error


_MEND = "Close other programs or offer less memory."


def _short(wanted: int, device: str) -> str:
    return f"{wanted / 2**20:.0f} MiB of memory on {device} are to be filled and could not be had."
