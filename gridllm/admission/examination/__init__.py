"""The conversation between candidate and authority, from Hello to the last question, and what it amounts to."""
