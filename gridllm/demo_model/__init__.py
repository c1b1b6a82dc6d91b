"""The small model that ships with the package, so that a grid can be tried without downloading anything.

`demo_model_path()` is all that callers need. The rest of this room made the weights (`python -m
gridllm.demo_model.train`); torch is imported only by those modules.
"""

from pathlib import Path

__all__ = ["demo_model_path"]


def demo_model_path() -> Path:
    """Folder of the shipped weights: a complete transformers model with its tokenizer and card."""
    return Path(__file__).resolve().parent / "weights"
