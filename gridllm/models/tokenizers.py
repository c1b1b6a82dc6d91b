"""Reading a model's tokenizer, which is a stranger's files: never any code of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gridllm.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder.

    Raises:
        ModelError: the folder has none that transformers can read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, OSError, KeyError, TypeError, ImportError) as error:
        raise ModelError(f"{folder} has no tokenizer that transformers can read: {error}") from error
