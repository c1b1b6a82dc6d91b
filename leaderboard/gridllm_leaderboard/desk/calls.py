"""What the leaderboard answers over the network: strangers' bytes come in here, and the worst they get is a refusal."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from gridllm.errors import LeaderboardError, Malformed, NodeFault, WireError
from gridllm_bootstrap.keeping.patience import Patience
from gridllm_leaderboard import messages
from gridllm_leaderboard.messages import (
    AskAnnulled,
    AskDossier,
    AskFile,
    AskHistory,
    AskLines,
    AskRank,
    AskRounds,
    AskSubmissions,
    AskWork,
    Enter,
    Message,
    PutGrade,
    PutLines,
    Regrade,
    Withdraw,
    pack,
    unpack,
)

if TYPE_CHECKING:
    from gridllm.ids import PeerId
    from gridllm.swarm.interface import Swarm
    from gridllm_leaderboard.desk.gradings import Gradings
    from gridllm_leaderboard.desk.readings import Readings
    from gridllm_leaderboard.desk.reception import Reception
    from gridllm_leaderboard.desk.regrading import Regrading
    from gridllm_leaderboard.desk.standing import Standing

log = logging.getLogger(__name__)

DOCUMENT: Final = 64  # units of patience (keeping.patience) that a signed document takes: 128 at once, then 32 a second
LIST: Final = 8
PIECE: Final = 32

M = TypeVar("M", bound=Message)


class Calls:
    """``await Calls(swarm, …).serve()``."""

    def __init__(
        self,
        swarm: Swarm,
        reception: Reception,
        regrading: Regrading,
        gradings: Gradings,
        readings: Readings,
        standing: Standing,
        *,
        patience: Patience | None = None,
    ) -> None:
        self._swarm = swarm
        self._reception = reception
        self._regrading = regrading
        self._gradings = gradings
        self._readings = readings
        self._standing = standing
        self._patience = patience or Patience(swarm.seen_at, who="leaderboard")

    async def serve(self) -> None:
        """Answer from now on."""
        reception, gradings, readings = self._reception, self._gradings, self._readings
        await self._on(messages.ENTER_CALL, Enter, DOCUMENT, lambda _, asked: reception.enter(asked.submission))
        await self._on(messages.WITHDRAW_CALL, Withdraw, DOCUMENT, lambda _, one: reception.withdraw(one.withdrawal))
        await self._on(messages.REGRADE_CALL, Regrade, DOCUMENT, self._regrading.ask)
        await self._on(messages.SUBMISSIONS_CALL, AskSubmissions, LIST, lambda _, one: readings.submissions(one))
        await self._on(messages.RANK_CALL, AskRank, LIST, lambda _, asked: self._standing.rank(asked))
        await self._on(messages.HISTORY_CALL, AskHistory, LIST, lambda _, asked: readings.history(asked))
        await self._on(messages.ROUNDS_CALL, AskRounds, LIST, lambda _, asked: readings.rounds(asked))
        await self._on(messages.ANNULLED_CALL, AskAnnulled, LIST, lambda _, asked: readings.annulled(asked))
        await self._on(messages.DOSSIER_CALL, AskDossier, LIST, lambda _, asked: readings.dossier(asked))
        await self._on(messages.LINES_CALL, AskLines, PIECE, lambda _, asked: readings.lines(asked))
        await self._on(messages.FILE_CALL, AskFile, PIECE, lambda _, asked: readings.file(asked))
        await self._on(messages.WORK_CALL, AskWork, LIST, gradings.work)
        await self._on(messages.PUT_LINES_CALL, PutLines, PIECE, gradings.put_lines)
        await self._on(messages.PUT_GRADE_CALL, PutGrade, DOCUMENT, gradings.put_grade)

    async def _on(
        self, name: str, kind: type[M], units: float, answer: Callable[[PeerId, M], Awaitable[Message]]
    ) -> None:
        """Answer calls of that name, each of which takes so many units of patience."""

        async def handle(peer: PeerId, payload: bytes) -> bytes:
            await self._patience.spend(peer, units)
            try:
                asked = unpack(payload, kind)
            except WireError as error:
                raise Malformed(str(error)) from error
            try:
                return pack(await answer(peer, asked))
            except LeaderboardError as error:
                log.warning("A call %s could not be answered: %s", name, error)
                raise NodeFault(
                    "The leaderboard cannot read or write its database now; tell its maintainer."
                ) from error

        await self._swarm.serve_calls(name, handle)
