"""``gridllm bootstrap run``: the first peer's life, from start to Ctrl-C."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from gridllm.admission.examination.background import in_background, warm_up
from gridllm.admission.gate import Gatekeeper
from gridllm.admission.manifests import Manifests
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import SignedCharter
from gridllm.charter.gossip import gossiping
from gridllm.charter.pin import Pins
from gridllm.cli.runtime import stop_on_signals
from gridllm.tasks import end, racing
from gridllm_bootstrap.first_peer import open_first_peer, watch
from gridllm_bootstrap.keeping.alone import KeptElsewhere
from gridllm_bootstrap.keeping.start import Bookkeeping, open_books
from gridllm_bootstrap.keeping.witness import Discord
from gridllm_bootstrap.measuring.office import Office, open_office
from gridllm_bootstrap.measuring.opening import Opening
from gridllm_bootstrap.reporter import Reporter

if TYPE_CHECKING:
    from gridllm.identity.keys import Identity
    from gridllm.swarm.interface import Swarm
    from gridllm_bootstrap.listen import Listening


async def serve_until_stopped(
    identity: Identity,
    signed: SignedCharter,
    pins: Pins,
    listening: Listening,
    *,
    as_json: bool,
    again: str,
    office: Office | None = None,
    books: Bookkeeping | None = None,
) -> None:
    """Run the first peer until Ctrl-C or SIGTERM, then leave with no process behind.

    Args:
        again: the command that starts it again, for people.
        office: a maintainer's key and how machines are measured with it; None measures none.
        books: a keeper's key and where the grid's books lie; None keeps none.

    Raises:
        SwarmError: it cannot start (address taken), or the libp2p daemon ended.
        LedgerError: the books cannot be used.
        CharterError: a manifest is missing, or known peers cannot be written.
    """
    reporter = Reporter(signed, as_json=as_json, again=again)
    with stop_on_signals() as stop:
        board = NoticeBoard(signed, pins.notices_path(signed))
        if office is not None and board.admission.required:
            await in_background(warm_up)  # before anyone can call: importing torch stops Python for up to a second
        manifests = Manifests(signed, board, pins)
        await asyncio.to_thread(manifests.load)
        async with AsyncExitStack() as stack:
            entering = open_first_peer(identity, signed, pins, listening, manifests.raws)
            swarm = await stack.enter_async_context(entering)
            await stack.enter_async_context(gossiping(swarm, board, lambda: pins.peers(signed)))
            kept, elsewhere = None, False
            if books is not None:
                opened = open_books(books, swarm, signed, board, manifests, reporter.discord, stop)
                try:
                    kept = await stack.enter_async_context(opened)
                except KeptElsewhere as error:
                    elsewhere = True
                    reporter.discord(Discord("elsewhere", books.identity.public_key.hex(), str(error)))
            if stop.is_set():
                reporter.stopping()
                return
            how = None
            if office is not None:
                tell = reporter.examined, reporter.unfit
                how = partial(open_office, office, swarm, signed, board, pins, *tell, manifests=manifests.models)
            opening = Opening(board, how, lambda: reporter.open_to(office, required=True))
            measuring = asyncio.create_task(opening.run())
            stack.push_async_callback(end, measuring)
            stack.callback(reporter.stopping)
            required = board.admission.required
            if required:
                await opening.opened(measuring)
            reporter.started(swarm, signed)
            if signed.charter.economy.required and (as_json or not elsewhere):  # else people were told why
                reporter.keeping(kept)
            reporter.open_to(office if required else None, required=required)
            looking = _look(swarm, signed, pins, Gatekeeper(signed, board), reporter, opening)
            working = [measuring, looking, manifests.follow(swarm), *([kept.keeper.failed()] if kept else [])]
            async with racing(stop.wait(), swarm.failed(), *working) as (_, failing, *others):
                for one in others:
                    if one.done():
                        one.result()  # raises what ended it
                if failing.done():
                    raise failing.result()


async def _look(
    swarm: Swarm, signed: SignedCharter, pins: Pins, gate: Gatekeeper, reporter: Reporter, opening: Opening
) -> None:
    async for census in watch(swarm, signed, pins, gate):
        reporter.seen(census, opening.crowd)
