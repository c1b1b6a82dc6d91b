"""Strangers' bytes, read strictly: what does not parse is refused in one sentence, whatever it does to the parser."""

from __future__ import annotations

from typing import Final, Protocol, TypeVar

import msgspec

from gridllm.errors import GridError, WireError

T = TypeVar("T")
Told = TypeVar("Told", covariant=True)

UNPARSABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises over bytes that are not what a decoder takes: nested too deep and text that is none, too."""


class Decoder(Protocol[Told]):
    """Of msgpack or JSON."""

    def decode(self, raw: bytes, /) -> Told:
        """What ``raw`` says."""
        ...


def read(decoder: Decoder[T], raw: bytes, what: str, error: type[GridError] = WireError) -> T:
    """What ``decoder`` reads in ``raw``, every bound checked.

    Args:
        what: begins the sentence: "A message from a peer".

    Raises:
        error: it does not parse.
    """
    try:
        return decoder.decode(raw)
    except UNPARSABLE as fault:
        raise error(f"{what} does not parse: {fault}.") from fault


def capped(raw: bytes, most: int, what: str) -> bytes:
    """``raw``, if it is no longer than ``most``. Raises WireError."""
    if len(raw) > most:
        raise WireError(f"{what} of {len(raw)} bytes exceeds the cap of {most}.")
    return raw
