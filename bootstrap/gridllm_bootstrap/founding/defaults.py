"""Why the minimums that a grid is founded with are what they are. ``gridllm.admission.defaults`` computes them."""

from __future__ import annotations

from typing import Final

from gridllm.admission.defaults import (
    BATCH_GAIN,
    LEAST_UPLOAD,
    PREFILL_GAIN,
    SESSIONS,
    SHARES,
    TOKENS_PER_S,
    Shape,
    default_admission,
)
from gridllm.charter.minimums import Role
from gridllm.planning.placement import USUAL_CACHE_TOKENS

__all__ = ["WHAT", "Shape", "default_admission", "why"]

WHAT: Final = {
    "decode_blocks_per_s": "blocks a second for the next token of one session",
    "batch_blocks_per_s": "the same for eight sessions in one pass, tokens of all eight together",
    "prefill_blocks_per_s": "blocks a second for the tokens of a prompt, all at once",
    "memory_bytes": "held all at once, for weights and caches",
    "disk_bytes": "free for the model's files, as the machine reports it",
    "upload_mbit_s": "what it sends, timed by the receiver",
    "download_mbit_s": "what it receives, timed up to the proof that it came",
    "reachable": "others can dial it without a relay",
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
    (
        "serve",
        "memory_bytes",
    ): f"1/{SHARES} of the blocks, at least one, with {USUAL_CACHE_TOKENS} tokens of cache and a margin",
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
