"""Nodes that will not serve an account as it stands: is it the papers, the node, or the account?"""

from __future__ import annotations

from typing import Final, Literal

from gridllm.errors import NotEntitled, Refusal
from gridllm.ids import PeerId
from gridllm_client.wallet import Wallet

MOST: Final = 3  # nodes; when a fourth says so, too, it is not the nodes

Means = Literal["again", "leave", "fatal"]
"""Show newer papers; take another node; give up."""


class Disputes:
    """Those of one session."""

    def __init__(self, wallet: Wallet, model: str) -> None:
        """``model``: root."""
        self._wallet = wallet
        self._model = model
        self._nodes: set[PeerId] = set()

    @property
    def lacking(self) -> bool:
        """Whether the model is not open to the account, by its own pass. A node has the sentence that says so."""
        needed = self._wallet.tier(self._model)  # 0: open to all, also to those who took more than they gave
        return needed > 0 and self._wallet.contribution < needed

    def heard(self, peer: PeerId, refusal: Refusal) -> Means:
        """A node refused. The first time newer papers are shown to it.

        By the account's own pass it is clear whether the grid opens the model to it; all else is that node's word.
        """
        first = not self._nodes
        self._nodes.add(peer)
        if first:
            return "again"
        if isinstance(refusal, NotEntitled) and self.lacking:
            return "fatal"  # no other node may say otherwise
        return "leave" if len(self._nodes) <= MOST else "fatal"
