"""Which model a command is about: one of the charter's, or one that was listed since, maybe a moment ago."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.document import ModelEntry, SignedCharter
    from gridllm.charter.pin import Pins


def find_entry(signed: SignedCharter, pins: Pins, board: NoticeBoard, model: str | None) -> ModelEntry:
    """The model called ``model`` (or of that root, or ``@champion``); without a name, the charter's first.

    What the charter does not name is looked for on the board, after first peers were asked for news.

    Raises:
        CharterError: the grid serves no such model, as far as is known here and first peers tell.
    """
    from gridllm.charter.catalogue import Catalogue
    from gridllm.cli.runtime import run_async
    from gridllm.cli.work import step
    from gridllm.errors import CharterError, SwarmError

    try:
        return signed.charter.model(model)
    except CharterError as unknown:
        with step(f"Asking {signed.charter.name} for listed models"):
            try:
                run_async(_hear(signed, pins, board))
            except SwarmError as error:  # what was heard before holds
                unknown.add_note(str(error))
        return Catalogue(signed, board).model(model)


async def _hear(signed: SignedCharter, pins: Pins, board: NoticeBoard) -> None:
    """Raises SwarmError."""
    from gridllm.charter.news import hear_news
    from gridllm.identity.keys import Identity
    from gridllm.swarm.libp2p import open_swarm

    swarm = await open_swarm(Identity.ephemeral(), client_only=True, namespace=signed.grid)
    try:
        await hear_news(swarm, board, pins.peers(signed))
    finally:
        await swarm.close()
