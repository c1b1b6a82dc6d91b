"""When a first peer begins to measure machines: at its start, or once an amendment closes an open grid."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING

from gridllm.admission.examination.background import in_background, warm_up

if TYPE_CHECKING:
    from gridllm.charter.board import NoticeBoard
    from gridllm_bootstrap.measuring.authority import Authority

OpenOffice = Callable[[], AbstractAsyncContextManager["Authority"]]


class Opening:
    """Opens the office when certificates are asked for: ``await opening.run()`` in the background.

    An office that is open stays so: certificates are of no use in a grid that was opened again, and do no harm.
    """

    def __init__(self, board: NoticeBoard, office: OpenOffice | None, later: Callable[[], None]) -> None:
        """
        Args:
            office: None where no maintainer's key is used.
            later: told when certificates are asked for that were not at the start.
        """
        self._board = board
        self._office = office
        self._later = later
        self._authority: Authority | None = None
        self._open = asyncio.Event()

    @property
    def crowd(self) -> tuple[int, int]:
        """How many machines are examined now, and how many wait."""
        return (0, 0) if self._authority is None else self._authority.crowd

    async def run(self) -> None:
        """Wait for it, open, and stay open until cancelled. Raises what hinders it (``office.open_office``)."""
        late = not self._board.admission.required
        if late:
            await self._until_required()
        async with AsyncExitStack() as stack:
            if self._office is not None:
                await in_background(warm_up)
                self._authority = await stack.enter_async_context(self._office())
            self._open.set()
            if late:
                self._later()
            await asyncio.Event().wait()

    async def opened(self, running: asyncio.Task[None]) -> None:
        """Return once it is open. Raises what ended ``running`` instead."""
        waiting = asyncio.create_task(self._open.wait())
        try:
            await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if running.done():
            running.result()

    async def _until_required(self) -> None:
        changed = asyncio.Event()
        forget = self._board.listen(changed.set)
        try:
            while not self._board.admission.required:
                changed.clear()
                await changed.wait()
        finally:
            forget()
