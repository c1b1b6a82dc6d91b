"""Sizes and durations as people type them."""

from __future__ import annotations

import re
from typing import Final

from gridllm.errors import UsageError

_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS: Final = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SECONDS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def parse_size(text: str) -> int:
    """``4GiB``, ``500MB``, ``1.5g`` or plain bytes → bytes.

    Raises:
        UsageError: not a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if match is None or (match[3] and not match[2]):
        raise UsageError(f"{text!r} is not a size; write it like 4GiB, 500MB or 1.5g.")
    units = _BINARY_UNITS if match[3] else _UNITS
    return int(float(match[1]) * units[match[2]])


def parse_duration(text: str) -> int:
    """``90s``, ``30min``, ``24h``, ``7d`` or ``0`` → seconds.

    Raises:
        UsageError: not a duration.
    """
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(s|min|h|d)\s*", text.lower())
    if text.strip() == "0":
        return 0
    if match is None:
        raise UsageError(f"{text!r} is not a duration; write it like 90s, 30min, 24h or 7d.")
    return round(float(match[1]) * _SECONDS[match[2]])


def spell_duration(seconds: int) -> str:
    """Seconds as people read them, without loss: ``24 h``, ``7 d``, ``90 s``."""
    for unit, length in reversed(_SECONDS.items()):
        if seconds and seconds % length == 0 and (unit != "d" or seconds >= 2 * length):
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def parse_credits(text: str) -> int:
    """``12``, ``0.25`` or ``3.5`` credits → micro-credits.

    Raises:
        UsageError: not an amount, or finer than a micro-credit.
    """
    match = re.fullmatch(r"\s*([0-9]{1,12})(?:\.([0-9]{1,6}))?\s*", text)
    if match is None:
        raise UsageError(f"{text!r} is not an amount of credit; write it like 12 or 0.25, with up to six decimals.")
    return int(match[1]) * 10**6 + int((match[2] or "").ljust(6, "0"))


def spell_credits(micro: int) -> str:
    """Micro-credits as people read them, without loss: ``12``, ``0.25``, ``1,204.000001``."""
    whole, rest = divmod(abs(micro), 10**6)
    decimals = f".{rest:06}".rstrip("0").rstrip(".")
    return f"{'-' if micro < 0 else ''}{whole:,}{decimals}"


def count_credits(micro: int) -> str:
    """Micro-credits with their unit: ``1 credit``, ``12 credits``."""
    return f"{spell_credits(micro)} {'credit' if micro == 10**6 else 'credits'}"


def count_things(number: int, one: str, many: str = "") -> str:
    """A number with its noun: ``1 log``, ``1,204 logs``, ``16 entries``; ``many`` where it is not ``one`` with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def spell_earnings(earned: int, waiting: int) -> str:
    """Micro-credits that a node was paid: ``earned 1.25 credits, 0.2 not yet handed in``."""
    later = f", {spell_credits(waiting)} not yet handed in" if waiting else ""
    return f"earned {spell_credits(earned)} credits{later}"
