"""``--min-…`` flags: ``[ROLE=]VALUE``, for the role ``serve`` when none is named. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gridllm.errors import UsageError
from gridllm.quantities import parse_duration, parse_size

if TYPE_CHECKING:
    from gridllm.charter.minimums import Admission

Changes = Mapping[tuple[str, str], object]
"""(role, field of ``Minimums``) → its new value."""

MinDecode = Annotated[list[str] | None, typer.Option(metavar="[ROLE=]N", help="Blocks/s, one session.")]
MinBatch = Annotated[list[str] | None, typer.Option(metavar="[ROLE=]N", help="Blocks/s, eight sessions in a pass.")]
MinPrefill = Annotated[list[str] | None, typer.Option(metavar="[ROLE=]N", help="Blocks/s, tokens of a prompt.")]
MinMemory = Annotated[list[str] | None, typer.Option(metavar="[ROLE=]SIZE", help="Held all at once, like 2GiB.")]
MinDisk = Annotated[list[str] | None, typer.Option(metavar="[ROLE=]SIZE", help="Free on disk, like 20GiB.")]
MinUpload = Annotated[list[str] | None, typer.Option(metavar="[ROLE=]MBIT", help="Mbit/s sent.")]
MinDownload = Annotated[list[str] | None, typer.Option(metavar="[ROLE=]MBIT", help="Mbit/s received.")]
MinReachable = Annotated[
    list[str] | None, typer.Option(metavar="[ROLE=]yes|no", help="Whether others must be able to dial it.")
]
MinVersion = Annotated[list[str] | None, typer.Option(metavar="[ROLE=]VERSION", help="Oldest gridllm; 0 for any.")]
CertificateLife = Annotated[
    str | None, typer.Option(metavar="DURATION", help="How long a certificate holds, like 90min, 24h or 7d.")
]

LIFE_S: Final = (30, 31 * 86400)


def collect(**flags: Sequence[str] | None) -> Changes:
    """Flags as typed, by field of ``Minimums`` → what they change.

    Raises:
        UsageError: no such role, or a value that does not fit.
    """
    from gridllm.charter.minimums import ROLES

    changes: dict[tuple[str, str], object] = {}
    for name, values in flags.items():
        for text in values or ():
            role, _, value = text.rpartition("=")
            role = role.strip() or "serve"
            if role not in ROLES:
                raise UsageError(f"There is no role {role!r} in {text!r}; roles are: {', '.join(ROLES)}.")
            changes[role, name] = _value(name, value.strip())
    return changes


def changed(admission: Admission, changes: Changes) -> Admission:
    """``admission`` with these minimums in place of its own.

    Raises:
        UsageError: a value that no minimum can have.
    """
    from pydantic import ValidationError

    document = admission.model_dump()
    for (role, name), value in changes.items():
        document[role][name] = value
    try:
        return type(admission).model_validate(document)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = " ".join(map(str, fault["loc"]))
        raise UsageError(f"The minimum {where} cannot be {fault['input']!r} ({fault['msg']}).") from error


def parse_life(text: str) -> int:
    """A certificate's life in seconds.

    Raises:
        UsageError: not a duration, or out of bounds.
    """
    seconds = parse_duration(text)
    if not LIFE_S[0] <= seconds <= LIFE_S[1]:
        raise UsageError(f"A certificate cannot hold for {text!r}; choose between 30s and 31d.")
    return seconds


def _value(name: str, text: str) -> object:
    if name.endswith("_bytes"):
        return parse_size(text)
    if name == "reachable":
        if text not in ("yes", "no"):
            raise UsageError(f"Whether a machine must be reachable is yes or no, not {text!r}.")
        return text == "yes"
    if name == "version":
        return "" if text == "0" else text
    if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text):
        raise UsageError(f"{text!r} is not a number for a minimum; write it like 16 or 2.5, or 0 to ask for nothing.")
    return float(text)
