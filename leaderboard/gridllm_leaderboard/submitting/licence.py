"""Under which licence a model is: as the author says, or as its model card does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from gridllm.errors import UsageError

CARD: Final = "README.md"
MOST_CARD_BYTES: Final = 256 * 1024
MOST_CHARACTERS: Final = 64  # statements.Submission
UNSAID: Final = ("", "unknown", "none")


def licence_of(folder: Path, said: str | None = None) -> str:
    """``said``, or the ``license`` of the card's front matter (``license_name`` where that is "other").

    Raises:
        UsageError: neither says; or at a length that no licence has.
    """
    licence = said if said is not None else _of_card(folder / CARD)
    licence = "" if licence is None else " ".join(licence.split())
    if licence.casefold() in UNSAID:
        raise UsageError(
            "The model does not say under which licence others may use it: give --license (MIT, Apache-2.0, …), or "
            f"write license: into the front matter of its {CARD}."
        )
    if len(licence) > MOST_CHARACTERS or not licence.isprintable():
        raise UsageError(f"{licence[:80]!r} is no licence's name; at most {MOST_CHARACTERS} characters.")
    return licence


def fetch_card(source: str, folder: Path) -> None:
    """Have the card of a model that came from the Hub in its folder, if it has one and the Hub can be reached."""
    if (folder / CARD).exists() or Path(source).expanduser().is_dir():
        return
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        hf_hub_download(source, CARD, revision=folder.name if len(folder.name) == 40 else None)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
        return  # licence_of says what to do


def _of_card(card: Path) -> str | None:
    front = _front_matter(card)
    value = front.get("license")
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    if str(value).casefold() == "other":
        value = front.get("license_name") or value
    return None if value is None else str(value)


def _front_matter(card: Path) -> dict[str, Any]:
    """The YAML between the first two lines of dashes; nothing where it is none."""
    import yaml

    try:
        with card.open("rb") as file:
            lines = file.read(MOST_CARD_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    if not lines or lines[0].strip() != "---" or "---" not in (ends := [line.strip() for line in lines[1:]]):
        return {}
    try:
        found = yaml.safe_load("\n".join(lines[1 : 1 + ends.index("---")]))
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
