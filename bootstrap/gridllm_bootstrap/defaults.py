"""Minimums that a grid is founded with unless its maintainer says otherwise, and why. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gridllm import __version__
from gridllm.admission.figures import version_tuple
from gridllm.charter.minimums import DAY_S, Admission, Minimums, Role

TOKENS_PER_S: Final = 2  # a chain of the slowest machines admitted computes so many for one session
BATCH_GAIN: Final = 2  # eight sessions in a pass, against one: any machine reaches more
PREFILL_GAIN: Final = 4  # a prompt's tokens go through together
SHARES: Final = 16  # so many of the smallest machines admitted hold the model
CACHE_TOKENS: Final = 4096  # that a machine must have room for beside its weights
SESSIONS: Final = 8  # whose hidden states its line must carry
LEAST_UPLOAD: Final = 1.0  # Mbit/s: a slow DSL line
LEAST_DOWNLOAD: Final = 4.0
CARRIER_MBIT_S: Final = 10.0  # of a relay or seed, both ways
MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model its minimums depend on."""

    blocks: int
    hidden_bytes: int  # what one token sends from node to node
    block_bytes: int  # weights of one block
    cache_bytes: int  # one token's, in one block
    file_bytes: int  # of all its tensors as they are stored


def default_admission(shapes: Sequence[Shape], certificate_s: int = DAY_S) -> Admission:
    """Minimums under which every machine admitted is of use, for the most demanding of the models."""
    blocks = max(shape.blocks for shape in shapes)
    stream_mbit_s = max(shape.hidden_bytes for shape in shapes) * SESSIONS * TOKENS_PER_S * 8 / 1e6
    version = ".".join(map(str, version_tuple(__version__)))
    return Admission(
        required=True,
        certificate_s=certificate_s,
        serve=Minimums(
            decode_blocks_per_s=float(TOKENS_PER_S * blocks),
            batch_blocks_per_s=float(TOKENS_PER_S * BATCH_GAIN * blocks),
            prefill_blocks_per_s=float(TOKENS_PER_S * PREFILL_GAIN * blocks),
            memory_bytes=max(map(_share_in_memory, shapes)),
            disk_bytes=_whole_mib(max(shape.file_bytes for shape in shapes) / SHARES),
            upload_mbit_s=max(LEAST_UPLOAD, round(stream_mbit_s, 1)),
            download_mbit_s=max(LEAST_DOWNLOAD, round(stream_mbit_s, 1)),
            version=version,
        ),
        relay=Minimums(upload_mbit_s=CARRIER_MBIT_S, download_mbit_s=CARRIER_MBIT_S, reachable=True, version=version),
        seed=Minimums(
            disk_bytes=_whole_mib(shapes[0].file_bytes),
            upload_mbit_s=CARRIER_MBIT_S,
            download_mbit_s=CARRIER_MBIT_S,
            version=version,
        ),
    )


def _share_in_memory(shape: Shape) -> int:
    blocks = math.ceil(shape.blocks / SHARES)
    return _whole_mib(blocks * (shape.block_bytes + CACHE_TOKENS * shape.cache_bytes))


def _whole_mib(size_bytes: float) -> int:
    return max(1, math.ceil(size_bytes / MIB)) * MIB


WHAT: Final = {
    "decode_blocks_per_s": "blocks a second for the next token of one session",
    "batch_blocks_per_s": "the same for eight sessions in one pass, tokens of all together",
    "prefill_blocks_per_s": "blocks a second for the tokens of a prompt, all at once",
    "memory_bytes": "held all at once, for weights and caches",
    "disk_bytes": "free for the model's files, as the machine reports it",
    "upload_mbit_s": "what it sends, timed by the receiver",
    "download_mbit_s": "what it receives, timed up to the proof that it came",
    "reachable": "others can dial it, no relay between",
    "version": "the oldest gridllm that may take part",
}
"""Field of ``Minimums`` → what it is."""

_WHY: Final[dict[tuple[Role, str], str]] = {
    ("serve", "decode_blocks_per_s"): (
        f"{TOKENS_PER_S} × the model's blocks: a chain of such machines computes {TOKENS_PER_S} tokens/s"
    ),
    ("serve", "batch_blocks_per_s"): f"{BATCH_GAIN} × that: each of eight sessions gets a token every two seconds",
    ("serve", "prefill_blocks_per_s"): (
        f"{PREFILL_GAIN} × decoding: a prompt of 64 tokens takes the chain {64 // TOKENS_PER_S // PREFILL_GAIN} s"
    ),
    ("serve", "memory_bytes"): f"1/{SHARES} of the blocks, at least one, with {CACHE_TOKENS} tokens of cache",
    ("serve", "disk_bytes"): "room for the files of those blocks",
    ("serve", "upload_mbit_s"): f"hidden states of {SESSIONS} sessions; a slow DSL line has {LEAST_UPLOAD:g} Mbit/s",
    ("serve", "download_mbit_s"): "the same inwards, and the files of its blocks",
    ("relay", "upload_mbit_s"): "it carries the chains of others",
    ("relay", "download_mbit_s"): "it carries the chains of others",
    ("relay", "reachable"): "a relay that cannot be dialled helps nobody",
    ("seed", "disk_bytes"): "it holds the first model's files",
    ("seed", "upload_mbit_s"): "a gigabyte in a quarter of an hour",
    ("seed", "download_mbit_s"): "a gigabyte in a quarter of an hour",
}


def why(role: Role, name: str) -> str:
    """Why a default is what it is; "" where there is nothing to say."""
    return "the founder's own" if name == "version" else _WHY.get((role, name), "")
