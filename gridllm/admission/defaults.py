"""Minimums that scale with a model: what a grid is founded with unless its maintainer says otherwise. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gridllm import __version__
from gridllm.admission.figures import version_tuple
from gridllm.charter.document import ModelEntry
from gridllm.charter.minimums import DAY_S, Admission, Minimums
from gridllm.models.manifest import Manifest
from gridllm.models.sizes import ITEM_BYTES, block_size
from gridllm.planning.placement import USUAL_CACHE_TOKENS, bytes_needed

TOKENS_PER_S: Final = 2  # a chain of the slowest machines admitted computes so many for one session
BATCH_GAIN: Final = 2  # eight sessions in a pass, against one: any machine reaches more
PREFILL_GAIN: Final = 4  # a prompt's tokens go through together
SHARES: Final = 16  # so many of the smallest machines admitted hold the model
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


def shape_of(entry: ModelEntry, manifest: Manifest) -> Shape:
    """The shape of one model, as it is served."""
    size = block_size(manifest, entry.dtype)
    return Shape(
        blocks=entry.blocks,
        hidden_bytes=entry.hidden_size * ITEM_BYTES[entry.dtype],
        block_bytes=size.weight_bytes,
        cache_bytes=size.cache_bytes_per_token,
        file_bytes=sum(tensor.size for tensor in manifest.tensors.values()),
    )


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
    """What ``serve`` takes its share in: an admitted machine must find room for it."""
    blocks = math.ceil(shape.blocks / SHARES)
    return _whole_mib(bytes_needed(blocks, shape.block_bytes, shape.cache_bytes, cache_tokens=USUAL_CACHE_TOKENS))


def _whole_mib(size_bytes: float) -> int:
    return max(1, math.ceil(size_bytes / MIB)) * MIB
