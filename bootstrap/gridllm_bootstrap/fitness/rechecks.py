"""What follows when clients agree that a node serves at less than half of its certified speed: it is measured again.

The node is called and must come within minutes. This examination is strict: no figure of the old certificate is carried
over. What it shows decides (``outcomes.decide``); reports alone never do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gridllm.admission.certificate import SKEW_S, Certificate
from gridllm.admission.figures import SPEEDS
from gridllm.admission.messages import RECHECK_CALL
from gridllm.admission.renewing import CARRIED_SHARE
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import SignedCharter
from gridllm.charter.notices import REVOCATION_TYPE, Revocation
from gridllm.errors import GridError
from gridllm.identity.keys import Identity
from gridllm.identity.statement import sign_statement
from gridllm.ids import ModelRoot, PeerId
from gridllm.swarm.interface import Swarm
from gridllm_bootstrap.fitness.fitness import Suspicion
from gridllm_bootstrap.fitness.outcomes import FitnessEvent, Outcome, decide
from gridllm_bootstrap.fitness.reports import Roster
from gridllm_bootstrap.paper import paper_of, write_paper

log = logging.getLogger(__name__)

COME_S: Final = 600.0  # to be examined, from the first call: an examination and a queue before it, with room to spare
STAY_S: Final = 900.0  # longer than that no queue is: one that waits in it is not given up meanwhile
CALL_EVERY_S: Final = 60.0  # until the node has heard
CALL_TIMEOUT_S: Final = 10.0
VOID_AFTER_S: Final = 30.0  # from the new certificate to the end of the older one: until then all have seen the new one


@dataclass(slots=True)
class _Case:
    suspicion: Suspicion
    old: Certificate
    over: asyncio.Event = field(default_factory=asyncio.Event)
    new: Certificate | None = None  # what this authority signed since
    refused: str = ""  # measured, and why it was not admitted the last time
    false: bool = False  # since something that it showed was false


class Rechecks:
    """Carries the cases of one authority: ``await rechecks.run()`` in the background."""

    def __init__(
        self,
        swarm: Swarm,
        signed: SignedCharter,
        maintainer: Identity,
        board: NoticeBoard,
        roster: Roster,
        *,
        tell: Callable[[FitnessEvent], None] = lambda _: None,
        present: Callable[[PeerId], bool] = lambda _: False,
        addresses: Callable[[PeerId], tuple[str, ...]] = lambda _: (),
        drafts: Path | None = None,
        come_s: float = COME_S,
        call_every_s: float = CALL_EVERY_S,
        void_after_s: float = VOID_AFTER_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            present: whether a peer waits for its examination, or is in it.
            addresses: where a node can be dialled.
            drafts: folder for revocations that need more signatures than this maintainer's.
        """
        self._swarm = swarm
        self._signed = signed
        self._maintainer = maintainer
        self._board = board
        self._roster = roster
        self._shown = tell
        self._present = present
        self._addresses = addresses
        self._drafts = drafts
        self._come_s = come_s
        self._call_every_s = call_every_s
        self._void_after_s = void_after_s
        self._clock = clock
        self._cases: dict[PeerId, _Case] = {}
        self._new: asyncio.Queue[_Case] = asyncio.Queue()

    def suspect(self, suspicion: Suspicion, certificate: Certificate) -> None:
        """Have a node measured again, unless that is under way; never waits."""
        if suspicion.peer not in self._cases:
            case = self._cases[suspicion.peer] = _Case(suspicion, certificate)
            self._new.put_nowait(case)

    def strict(self, peer: PeerId) -> bool:
        """Whether an examination of ``peer`` carries nothing over from its old certificate."""
        return peer in self._cases

    def certified(self, certificate: Certificate) -> None:
        """This authority signed a new certificate."""
        case = self._cases.get(PeerId(certificate.peer))
        if case is not None and certificate.issued >= case.old.issued:
            case.new = certificate
            case.over.set()

    def not_admitted(self, peer: PeerId, why: str, *, final: bool) -> None:
        """This authority measured a machine and did not admit it.

        Args:
            final: something was found false. A machine that was only too slow may try again while there is time, so
                that nobody has it thrown out with a few lies and a minute's load.
        """
        case = self._cases.get(peer)
        if case is not None:
            case.refused = why
            case.false = final
            if final:
                case.over.set()

    async def run(self) -> None:
        """Carry out what is suspected, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._carry_out(await self._new.get()))

    async def _carry_out(self, case: _Case) -> None:
        peer = case.suspicion.peer
        self._say(FitnessEvent("suspect", peer, f"{case.suspicion.sentence()}; it is called to be measured again."))
        try:
            await self._call(case)
            new, serving = case.new or await self._newer(case), await self._serves(case)
            outcome = decide(case.old, new, case.refused, false=case.false, serving=serving)
            self._say(FitnessEvent(outcome.kind, peer, outcome.why))
            if outcome.voids:
                await self._void(case, outcome)
        except GridError as error:
            log.warning("The recheck of %s was not completed: %s", peer, error)
        except Exception:
            log.exception("The recheck of %s failed", peer)
        finally:
            del self._cases[peer]

    def _say(self, event: FitnessEvent) -> None:
        try:
            self._shown(event)
        except Exception:  # a terminal that was closed, say: nodes are measured all the same
            log.exception("This could not be shown: %s", event)

    async def _call(self, case: _Case) -> None:
        """Call the node until it has heard, and wait until its examination is over or it is too late."""
        peer, loop = case.suspicion.peer, asyncio.get_running_loop()
        until_s, longest_s = loop.time() + self._come_s, loop.time() + self._come_s + STAY_S
        heard = False
        while (now_s := loop.time()) < (longest_s if self._present(peer) else until_s):
            heard = heard or await self._called(peer)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._call_every_s, max(until_s - now_s, 0.05))):
                    await case.over.wait()
                    return

    async def _called(self, peer: PeerId) -> bool:
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                if addresses := self._addresses(peer):
                    await self._swarm.connect(peer, addresses)
                await self._swarm.call(peer, RECHECK_CALL, b"")
        except (GridError, TimeoutError) as error:  # one that was called by another authority just now refuses, too
            log.info("Node %s did not take the call to be measured again: %s", peer, error)
            return False
        return True

    async def _newer(self, case: _Case) -> Certificate | None:
        """What other authorities certified meanwhile, if it can be that they measured as strictly as this one."""
        found = await self._listed(case)
        if found is None or found.issued <= case.old.issued:
            return None
        return found if _measured_afresh(case.old, found, self._maintainer.public_key.hex()) else None

    async def _serves(self, case: _Case) -> bool:
        return await self._listed(case) is not None

    async def _listed(self, case: _Case) -> Certificate | None:
        return (await self._roster.certificates(ModelRoot(case.old.model))).get(case.suspicion.peer)

    async def _void(self, case: _Case, outcome: Outcome) -> None:
        """Make an end of the old certificate: at once where this maintainer's word is enough, else by a draft.

        Without one, every authority signs the new figures only, and the old certificate runs out by itself.
        """
        issued = int(self._clock())
        if case.new is not None:
            issued = case.new.issued  # voids all before it, and not itself
            await asyncio.sleep(self._void_after_s)  # whoever holds the old one sees the new one first
        revocation = Revocation(
            grid=self._signed.grid,
            peer=case.suspicion.peer,
            why=f"{case.suspicion.sentence()}. {outcome.why}"[:300],
            issued=issued,
            # Without a bar, well in the past: clocks that are behind must not see one either.
            until=issued + outcome.bar_s if outcome.bar_s else max(0, issued - 2 * SKEW_S),
        )
        raw = sign_statement(revocation, REVOCATION_TYPE, [self._maintainer])
        if self._signed.charter.threshold == 1:
            await self._board.take([raw])
            return
        if self._drafts is not None:
            paper = paper_of(raw)
            path = self._drafts / f"revocation-{paper.content_digest[:16]}.json"
            write_paper(path, paper)
            text = f"Other maintainers must sign its revocation, with: gridllm bootstrap sign {path}"
            self._say(FitnessEvent("draft", case.suspicion.peer, text))


def _measured_afresh(old: Certificate, new: Certificate, maintainer: str) -> bool:
    """Whether ``new`` shows what the node reaches now.

    This maintainer's authority measured strictly. Others may not have heard the clients; theirs count when no speed is
    what an ordinary renewal carries over of the old one.
    """
    was, now = old.figures, new.figures
    carried_over = any(getattr(now, name) == CARRIED_SHARE * getattr(was, name) for name in SPEEDS)
    return maintainer in new.measured_by or not carried_over
