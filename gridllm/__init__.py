"""GridLLM: volunteers pool machines to host language models none of them could host alone."""

__version__ = "0.1.0"
