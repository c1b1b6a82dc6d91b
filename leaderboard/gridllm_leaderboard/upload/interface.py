"""What the upload needs of the desk, which keeps the submissions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gridllm.ids import ModelRoot


@dataclass(frozen=True, slots=True)
class Expected:
    """What a submission said about its files."""

    root: ModelRoot
    weights: str  # models.manifest.weights_digest
    size: int  # bytes of weights
    parameters: int


class Uploads(Protocol):
    """The desk, as the upload sees it."""

    async def expected(self, submission: str, account: str) -> Expected:
        """What that submission is to bring.

        Raises:
            NotAccepted: there is none of that id, it is another account's, or it is not in state ``uploading``.
        """
        ...

    async def arrived(self, submission: str) -> None:
        """All of it is in the vault (``Vault.folder(root)``); the desk goes on from here (checks it). Idempotent.

        Called before the author hears ``Whole``; must not wait for the check.
        """
        ...

    async def refused(self, submission: str, why: str) -> None:
        """Its manifest is not what the submission said, or none that may be graded: no file of it will ever be taken.

        ``why``: one sentence for the author. The desk sets the state and calls ``Vault.remove``. Idempotent.
        """
        ...
