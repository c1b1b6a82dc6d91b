"""What was typed about credit → amounts, before any model is read; what cannot be is told with its flag. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from gridllm.errors import UsageError
from gridllm.quantities import parse_credits, parse_duration, spell_duration

if TYPE_CHECKING:
    from gridllm_bootstrap.founding.economy_flags import EconomyWishes

NEWCOMERS: Final = ("nothing", "allowance", "lowest")
# As in charter.economy, which has the last word.
MAX_WINDOW: Final = 65_536  # tokens
MAX_PRICE: Final = 10**9  # micro-credits for a token through a million parameters
PASS_S: Final = (30, 86_400)
ESCROW_S: Final = (60, 7 * 86_400)
MAX_CLASSES: Final = 8
MAX_KEEPERS: Final = 16
KEY_DIGITS: Final = 64


def parsed(wishes: EconomyWishes, models: Sequence[str]) -> dict[str, Any]:
    """Fields of the charter's economy that were typed; tiers by the model's name.

    Args:
        models: names of the grid's models.

    Raises:
        UsageError: an amount, name or combination that cannot be.
    """
    prices = given(
        decode=_price("--decode-price", wishes.decode_price), prefill=_price("--prefill-price", wishes.prefill_price)
    )
    allowance = _credits("--allowance", wishes.allowance)
    _check_newcomers(wishes.newcomers, allowance)
    return given(
        prices=prices or None,
        starter=_credits("--starter", wishes.starter),
        newcomers=wishes.newcomers,
        allowance=allowance,
        trust=_credits("--trust", wishes.trust),
        classes=_classes(wishes.classes or ()),
        tiers=_tiers(wishes.tiers or (), models),
        submit=_credits("--submit", wishes.submit),
        window_tokens=_window(wishes.window),
        pass_s=_seconds("--pass-life", wishes.pass_life, PASS_S),
        escrow_s=_seconds("--escrow-life", wishes.escrow_life, ESCROW_S),
        keepers=_keepers(wishes.keepers or ()),
    )


def given(**values: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def _check_newcomers(newcomers: str | None, allowance: int | None) -> None:
    if newcomers is not None and newcomers not in NEWCOMERS:
        raise UsageError(f"--newcomers {newcomers[:40]!r} is not known; choose one of {', '.join(NEWCOMERS)}.")
    if newcomers == "allowance" and not allowance:
        raise UsageError(
            "--newcomers allowance gives each account something every day; say how much, like --allowance 5."
        )
    if newcomers != "allowance" and allowance is not None:
        raise UsageError("--allowance is only for --newcomers allowance; add that, or leave out --allowance.")


def _amount(flag: str, text: str) -> int:
    try:
        return parse_credits(text)
    except UsageError as error:
        raise UsageError(f"{flag}: {error}") from error


def _credits(flag: str, text: str | None) -> int | None:
    return None if text is None else _amount(flag, text)


def _price(flag: str, text: str | None) -> int | None:
    """Credits for a token through a billion parameters → micro-credits through a million."""
    if text is None:
        return None
    micro = _amount(flag, text)
    if micro % 1000:
        raise UsageError(f"{flag}: a price of {text!r} is too fine; three decimals are the most.")
    if micro // 1000 > MAX_PRICE:
        raise UsageError(f"{flag}: a price of {text!r} is too high; a million credits are the most.")
    return micro // 1000


def _window(tokens: int | None) -> int | None:
    if tokens is not None and not 1 <= tokens <= MAX_WINDOW:
        raise UsageError(f"--window {tokens} cannot be; choose 1 to {MAX_WINDOW:,} tokens.")
    return tokens


def _seconds(flag: str, text: str | None, bounds: tuple[int, int]) -> int | None:
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except UsageError as error:
        raise UsageError(f"{flag}: {error}") from error
    least, most = bounds
    if not least <= seconds <= most:
        raise UsageError(f"{flag} {text!r} cannot be; choose {spell_duration(least)} to {spell_duration(most)}.")
    return seconds


def _classes(typed: Sequence[str]) -> tuple[int, ...]:
    classes = sorted(_amount("--class", text) for text in typed)
    if len(set(classes)) != len(classes):
        raise UsageError("Two --class flags have the same amount; give each class its own.")
    if 0 in classes:
        raise UsageError("--class 0 distinguishes nobody; give it an amount above 0, or leave it out.")
    if len(classes) > MAX_CLASSES:
        raise UsageError(f"There are {len(classes)} --class; {MAX_CLASSES} are the most.")
    return tuple(classes)


def _tiers(typed: Sequence[str], models: Sequence[str]) -> tuple[dict[str, Any], ...]:
    tiers: dict[str, int] = {}
    for text in typed:
        name, separator, amount = text.rpartition("=")
        if not separator or name not in models:
            raise UsageError(f"--tier {text!r} names no model of this grid; write it like {models[0]}=50.")
        if name in tiers:
            raise UsageError(f"The model {name!r} has two --tier flags; leave out one of them.")
        tiers[name] = _amount("--tier", amount)
        if not tiers[name]:
            raise UsageError(f"--tier {text!r} asks for nothing; give an amount above 0, or leave it out.")
    return tuple({"model": name, "contribution": needed} for name, needed in tiers.items())


def _keepers(keys: Sequence[str]) -> tuple[str, ...]:
    for key in keys:
        if len(key) != KEY_DIGITS or set(key) - set("0123456789abcdef"):
            raise UsageError(
                f"--keeper {key[:80]!r} is not a maintainer's public key (64 hex digits); each maintainer gets one "
                "with: gridllm bootstrap key"
            )
    if len(set(keys)) != len(keys):
        raise UsageError("The same --keeper is given twice; leave out one of them.")
    if len(keys) > MAX_KEEPERS:
        raise UsageError(f"There are {len(keys)} --keeper; {MAX_KEEPERS} are the most.")
    return tuple(keys)
