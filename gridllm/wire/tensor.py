"""Hidden states as raw bytes: dtype and row counts travel in the message, the rest is C order."""

from __future__ import annotations

from typing import Final

import torch

from gridllm.errors import BadTensor, UsageError

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_named(name: str) -> torch.dtype:
    """The torch dtype of a wire name.

    Raises:
        UsageError: the name is not one of ``DTYPES``.
    """
    try:
        return DTYPES[name]
    except KeyError:
        raise UsageError(f"Data type {name!r} is not supported; use one of {', '.join(DTYPES)}.") from None


def name_of(dtype: torch.dtype) -> str:
    """The wire name of a torch dtype (``float32`` for ``torch.float32``)."""
    return str(dtype).removeprefix("torch.")


def pack(hidden: torch.Tensor) -> memoryview:
    """Bytes of ``hidden`` [tokens, hidden_size], CPU, without a copy where it is contiguous already."""
    flat = hidden.detach().contiguous().view(-1)
    return flat.view(torch.uint8).numpy().data


def unpack(body: bytes | bytearray | memoryview, *, tokens: int, hidden_size: int, dtype: torch.dtype) -> torch.Tensor:
    """Body of a Step or Output → [tokens, hidden_size], CPU; shares the body's memory.

    Raises:
        BadTensor: the byte count does not fit the shape, or a value is NaN or infinite.
    """
    expected = tokens * hidden_size * dtype.itemsize
    if len(body) != expected:
        raise BadTensor(
            f"A tensor of {len(body)} bytes came where {tokens} tokens × {hidden_size} {name_of(dtype)} values need "
            f"{expected}."
        )
    buffer = body if isinstance(body, bytearray) else bytearray(body)  # torch wants writable memory
    hidden = torch.frombuffer(buffer, dtype=dtype).view(tokens, hidden_size)
    # A sum is NaN or infinite as soon as one value is; one pass, no temporary of the tensor's size.
    if not torch.isfinite(hidden.sum(dtype=torch.float32)) and not torch.isfinite(hidden).all():
        raise BadTensor("A tensor holds NaN or infinite values.")
    return hidden
