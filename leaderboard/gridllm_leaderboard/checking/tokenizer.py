"""Whether a model's tokenizer can be read, says what it was given, and stays within bounds. In a child only.

A few kilobytes of tokenizer.json can ask for any amount of work: rules that multiply a text, patterns that backtrack,
padding to a billion. So what is large is refused before a library reads it, and the rest is tried with all sorts of
text, where processor time and memory are limited (child.py).
"""

from __future__ import annotations

import json
import random
import string
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gridllm.errors import ModelError
from gridllm.models.manifest import MAX_SMALL_FILE_BYTES, TOKENIZER_FILES
from gridllm.models.tokenizers import read_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_FILE_BYTES: Final = MAX_SMALL_FILE_BYTES
MOST_ENTRIES: Final = 1_000_000  # of a vocabulary
MOST_MERGES: Final = 2_000_000
MOST_ADDED: Final = 20_000
LONGEST_ENTRY: Final = 1024  # characters of one
LONGEST_RULE: Final = 4096  # characters of a pattern or a replacement
MOST_RULES: Final = 5000  # values in what is neither vocabulary nor merges
TOKENS_PER_BYTE: Final = 4  # some spell a character in several tokens
LONGEST_TEMPLATE: Final = 64 * 1024  # characters of a chat template, and of what it makes of a greeting
SAMPLE_S: Final = 5.0  # to read or spell a text of some 20 KB; it takes a few ms


def check_tokenizer(folder: Path, rows: int) -> None:
    """
    Args:
        rows: of the model's token embedding.

    Raises:
        ModelError: it is missing, cannot be read, out of bounds, or does not cover plain text.
    """
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            _check_file(folder / name)
    tokenizer = _read(folder)
    ids = tokenizer.get_vocab()
    name, largest = max(ids.items(), key=lambda one: one[1], default=("", -1))
    if not 0 < len(ids) <= MOST_ENTRIES or largest >= rows:
        raise ModelError(
            f"The tokenizer has {len(ids):,} tokens up to id {largest:,} ({name[:40]!r}), and the model's embedding "
            f"{rows:,} rows."
        )
    for what, text in _samples():
        _check_sample(tokenizer, what, text)
    spelt = tokenizer.decode(sorted(ids.values())[:: max(1, len(ids) // 1000)])
    if len(spelt) > 1100 * LONGEST_ENTRY:
        raise ModelError(f"The tokenizer spells a thousand tokens as {len(spelt):,} characters: out of bounds.")
    _check_template(tokenizer)


def _read(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return read_tokenizer(folder)
    except (ModelError, MemoryError):
        raise
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(f"The model has no tokenizer that transformers can read: {error}") from error


def _check_file(file: Path) -> None:
    if file.stat().st_size > MOST_FILE_BYTES:
        raise ModelError(f"{file.name} has {file.stat().st_size:,} bytes; at most {MOST_FILE_BYTES:,} are taken.")
    if file.suffix != ".json":
        return
    try:
        data = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file.name} is not JSON: {str(error)[:200]}.") from error
    if not isinstance(data, dict):
        raise ModelError(f"{file.name} is not a JSON object.")
    if "auto_map" in data:
        raise ModelError(f"{file.name} asks for code of the model's own (auto_map); GridLLM runs no code from a model.")
    if file.name == "tokenizer.json":
        model = data.get("model")
        _check_spelling(model if isinstance(model, dict) else {})
        _check_rules({key: value for key, value in data.items() if key not in ("model", "added_tokens")}, file.name)
        added = data.get("added_tokens") or []
        _check_entries(added, MOST_ADDED, "added tokens")
    elif file.name in ("vocab.json", "added_tokens.json"):
        _check_entries(data, MOST_ENTRIES, "entries")
    else:
        _check_rules({key: value for key, value in data.items() if key != "chat_template"}, file.name)


def _check_spelling(model: dict[str, Any]) -> None:
    """The vocabulary and the merges of tokenizer.json."""
    _check_entries(model.get("vocab") or {}, MOST_ENTRIES, "entries")
    _check_entries(model.get("merges") or [], MOST_MERGES, "merges")
    rules = {key: value for key, value in model.items() if key not in ("vocab", "merges")}
    _check_rules(rules, "tokenizer.json")


def _check_entries(entries: object, most: int, what: str) -> None:
    if not isinstance(entries, list | dict) or len(entries) > most:
        raise ModelError(f"The tokenizer has no list of {what}, or one of more than {most:,}.")
    for entry in entries:
        parts = entry if isinstance(entry, list) else [entry.get("content")] if isinstance(entry, dict) else [entry]
        if any(isinstance(part, str) and len(part) > LONGEST_ENTRY for part in parts):
            raise ModelError(f"One of the tokenizer's {what} has more than {LONGEST_ENTRY:,} characters.")


def _check_rules(rules: object, name: str) -> None:
    values = list(_leaves(rules))
    if len(values) > MOST_RULES:
        raise ModelError(f"{name} has {len(values):,} rules; at most {MOST_RULES:,} are taken.")
    for value in values:
        if isinstance(value, str) and len(value) > LONGEST_RULE:
            raise ModelError(f"{name} has a rule of {len(value):,} characters; at most {LONGEST_RULE:,} are taken.")


def _leaves(value: object, depth: int = 0) -> Iterator[object]:
    if depth > 32:
        raise ModelError("The tokenizer's rules are nested too deeply.")
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _leaves(one, depth + 1)
    else:
        yield value


def _samples() -> Iterator[tuple[str, str]]:
    """Texts of up to 20 KB. Plain ones have to come back as they were: what is lost on the way is not predicted."""
    chance = random.Random(7)  # noqa: S311  # no secret: the same texts for everyone
    letters = string.ascii_letters + string.digits + string.punctuation
    words = ["".join(chance.choices(string.ascii_lowercase, k=chance.randint(1, 9))) for _ in range(400)]
    yield "plain", "The quick brown fox jumps over the lazy dog; 3 + 4 = 7, isn't it? (Yes!)"
    yield "plain", " ".join(string.printable[:94])
    yield "plain", " ".join("".join(chance.choices(letters, k=12)) for _ in range(100))
    yield "plain", " ".join(chance.choices(words, k=3000))
    yield "plain", "def f(x):\n    if x:\n\treturn 'a  b'\n\n\n" + "\n".join(chance.choices(words, k=200)) + "."
    for unit in ("a", " ", "\n", "0", "\t ", "aA1!", "é", "漢", "🙂", "\u200b", "a\u0301", "ﷺ", "<", "((", "\x00"):
        yield "odd", unit * (20_000 // len(unit.encode()))
    yield "odd", "".join(chr(chance.randint(1, 0xD7FF)) for _ in range(5000))


def _check_sample(tokenizer: PreTrainedTokenizerBase, what: str, text: str) -> None:
    began = time.monotonic()
    ids = tokenizer.encode(text, add_special_tokens=False)
    if len(ids) > TOKENS_PER_BYTE * len(text.encode()) + 16:
        raise ModelError(
            f"The tokenizer makes {len(ids):,} tokens of a text of {len(text.encode()):,} bytes: out of bounds."
        )
    back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    if len(back) > TOKENS_PER_BYTE * len(text.encode()) + 1024:
        raise ModelError(f"The tokenizer makes {len(back):,} characters of {len(ids):,} tokens: out of bounds.")
    took = time.monotonic() - began
    if took > SAMPLE_S:
        raise ModelError(f"The tokenizer takes {took:.0f} s for a text of {len(text.encode()):,} bytes: out of bounds.")
    if what == "plain" and back.strip() != text:
        raise ModelError(
            "The tokenizer does not cover plain text: what it makes of "
            f"{text[:40]!r}… reads {back[:40]!r}…, and a text that it does not reproduce cannot be graded."
        )


def _check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    template = tokenizer.chat_template
    for one in template.values() if isinstance(template, dict) else [template]:
        if one is None:
            continue
        if len(one) > LONGEST_TEMPLATE:
            raise ModelError(f"The chat template has {len(one):,} characters; at most {LONGEST_TEMPLATE:,} are taken.")
        greeting = [{"role": "user", "content": "hello"}]
        try:
            made = tokenizer.apply_chat_template(greeting, chat_template=one, tokenize=False)
        except Exception as error:  # templates raise what they like, some for good reasons
            if isinstance(error, MemoryError):
                raise
            continue
        if len(made) > LONGEST_TEMPLATE:
            raise ModelError(f"The chat template makes {len(made):,} characters of a greeting: out of bounds.")
