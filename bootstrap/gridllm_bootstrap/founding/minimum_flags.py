"""``--min-…`` flags: ``[ROLE=]VALUE``, for the role ``serve`` when none is named. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gridllm.errors import UsageError
from gridllm.quantities import parse_duration, parse_size

if TYPE_CHECKING:
    from gridllm.charter.minimums import Admission

Changes = Mapping[tuple[str, str], object]
"""(role, field of ``Minimums``) → its new value."""

LIFE_S: Final = (30, 31 * 86400)

Typed = list[str] | None


def _minimum(flag: str, value: str, told: str) -> Any:
    return typer.Option(flag, metavar=f"[ROLE=]{value}", help=told)


@dataclass(frozen=True, slots=True, kw_only=True)
class MinimumFlags:
    """As typed, each but the last named after the field of ``Minimums`` that it sets; None: not said."""

    decode_blocks_per_s: Annotated[Typed, _minimum("--min-decode", "N", "Blocks/s, one session.")] = None
    batch_blocks_per_s: Annotated[Typed, _minimum("--min-batch", "N", "Blocks/s, eight sessions in a pass.")] = None
    prefill_blocks_per_s: Annotated[Typed, _minimum("--min-prefill", "N", "Blocks/s, tokens of a prompt.")] = None
    memory_bytes: Annotated[Typed, _minimum("--min-memory", "SIZE", "Memory held at once, like 2GiB.")] = None
    disk_bytes: Annotated[Typed, _minimum("--min-disk", "SIZE", "Free on disk, like 20GiB.")] = None
    upload_mbit_s: Annotated[Typed, _minimum("--min-upload", "MBIT", "Mbit/s sent.")] = None
    download_mbit_s: Annotated[Typed, _minimum("--min-download", "MBIT", "Mbit/s received.")] = None
    reachable: Annotated[Typed, _minimum("--min-reachable", "yes|no", "Whether others must be able to dial it.")] = None
    version: Annotated[Typed, _minimum("--min-version", "VERSION", "Oldest gridllm; 0 for any.")] = None
    certificate_life: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long a certificate is valid, like 90min, 24h or 7d.")
    ] = None

    def changes(self) -> Changes:
        """What they change.

        Raises:
            UsageError: no such role, or a value that does not fit.
        """
        from gridllm.charter.minimums import ROLES

        changes: dict[tuple[str, str], object] = {}
        for name in (one.name for one in fields(self) if one.name != "certificate_life"):
            for text in getattr(self, name) or ():
                role, _, value = text.rpartition("=")
                role = role.strip() or "serve"
                if role not in ROLES:
                    raise UsageError(f"There is no role {role!r} in {text!r}; roles are: {', '.join(ROLES)}.")
                changes[role, name] = _value(name, value.strip())
        return changes

    def certificate_s(self) -> int | None:
        """A certificate's life in seconds; None: not said.

        Raises:
            UsageError: not a duration, or out of bounds.
        """
        if self.certificate_life is None:
            return None
        seconds = parse_duration(self.certificate_life)
        if not LIFE_S[0] <= seconds <= LIFE_S[1]:
            raise UsageError(f"A certificate cannot hold for {self.certificate_life!r}; choose between 30s and 31d.")
        return seconds


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


def _value(name: str, text: str) -> object:
    if name.endswith("_bytes"):
        return parse_size(text)
    if name == "reachable":
        if text not in ("yes", "no", "0"):  # 0 asks for nothing, as with every minimum
            raise UsageError(f"Whether a machine must be reachable is yes or no, not {text!r}.")
        return text == "yes"
    if name == "version":
        return "" if text == "0" else text
    if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text):
        raise UsageError(f"{text!r} is not a number for a minimum; write it like 16 or 2.5, or 0 to ask for nothing.")
    return float(text)
