"""The same examination with both sides in this process: what ``gridllm bench`` runs. The network is left out."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from gridllm.admission.examination.candidacy import Candidacy, Watcher
from gridllm.admission.examination.conversation import Conversation
from gridllm.admission.examination.judge import SeenRoots
from gridllm.admission.examination.prover import Prover, answer_examination, hello_of
from gridllm.admission.examination.stages import Examination, Examined, Pace
from gridllm.admission.examination.verifier import examine
from gridllm.admission.messages import ADMISSION_STREAM, Hello, Verdict
from gridllm.charter.minimums import Admission
from gridllm.errors import AdmissionError, GridError, OutOfTurn, PeerLost, Refusal
from gridllm.identity.keys import Identity
from gridllm.ids import GridId, PeerId
from gridllm.swarm.interface import Stream
from gridllm.swarm.memory import MemoryNetwork

NO_GRID: Final = GridId("0" * 64)
FAREWELL_S: Final = 5.0


async def examine_here(
    candidacy: Candidacy,
    watcher: Watcher,
    *,
    admission: Admission | None = None,
    pace: Pace | None = None,
    prover: type[Prover] = Prover,
) -> Examined:
    """Measure this machine as an authority would. Speed and memory are checked; of the network, nothing is known.

    Args:
        admission: minimums to reach; None: none.
        pace: how long and how much.
        prover: another kind, for tests.

    Raises:
        AdmissionError: this machine cannot do what is measured.
        Refusal: the two sides do not agree on their turns.
    """
    network = MemoryNetwork()
    here, authority = network.join(Identity.ephemeral()), network.join(Identity.ephemeral())
    outcome: asyncio.Future[Examined] = asyncio.get_running_loop().create_future()
    outcome.add_done_callback(_look_at)

    async def serve(stream: Stream) -> None:
        try:
            outcome.set_result(await _lead(stream, here.peer, candidacy, admission or Admission(), pace))
        except GridError as error:
            outcome.set_exception(error)

    await authority.serve_streams(ADMISSION_STREAM, serve)
    try:
        stream = await here.open_stream(authority.peer, ADMISSION_STREAM)
        mine = prover(candidacy, NO_GRID, here.peer)
        try:
            await answer_examination(stream, mine, hello_of(candidacy, NO_GRID, ()), watcher)
        except (PeerLost, Refusal) as error:
            await asyncio.wait([outcome], timeout=FAREWELL_S)
            if outcome.done() and isinstance(outcome.exception(), Refusal):
                raise  # both say the same
            raise AdmissionError(f"The examination was cut short: {error}") from error
        return await outcome
    finally:
        await here.close()
        await authority.close()


def _look_at(outcome: asyncio.Future[Examined]) -> None:
    """Count the authority's error as seen: the candidate's side is raised, or Ctrl-C, which the authority sees last."""
    if not outcome.cancelled():
        outcome.exception()


async def _lead(
    stream: Stream, peer: PeerId, candidacy: Candidacy, admission: Admission, pace: Pace | None
) -> Examined:
    """The authority's part."""
    talk = Conversation(stream)
    hello, _ = await talk.read(timeout_s=FAREWELL_S)
    if not isinstance(hello, Hello):
        await talk.end(OutOfTurn("An examination begins with Hello."))
    examination = Examination(
        grid=NO_GRID,
        authority_hex=NO_GRID,
        peer=peer,
        entry=candidacy.entry,
        manifest=candidacy.manifest,
        admission=admission,
        hello=hello,
        seen=SeenRoots(),
        network=False,
    )
    examined = await examine(stream, examination, pace)
    await talk.tell(
        Verdict(
            admitted=examined.admitted,
            reason=examined.reason,
            text=examined.text[:1024],
            figures=examined.figures.model_dump_json().encode(),
            measurement=b"",
        )
    )
    with contextlib.suppress(PeerLost, TimeoutError):
        async with asyncio.timeout(FAREWELL_S):
            await stream.read()  # the candidate closes
    return examined
