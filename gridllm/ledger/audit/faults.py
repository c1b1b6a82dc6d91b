"""What an audit found wrong."""

from __future__ import annotations

from gridllm.errors import LedgerError


class Wrong(LedgerError):
    """The books are not what they should be; the text names the keeper and, where there is one, the entry."""

    def __init__(
        self,
        text: str,
        *,
        keeper: str = "",
        log: str = "",
        index: int | None = None,
        evidence: bytes = b"",
    ) -> None:
        """``keeper``: who is at fault, as far as can be known; ``evidence``: ``log.evidence.Equivocation.raw``."""
        super().__init__(text)
        self.keeper, self.log, self.index, self.evidence = keeper, log, index, evidence


def short(key: str) -> str:
    """Enough of a key in hex to tell it from others."""
    return f"{key[:16]}…"
