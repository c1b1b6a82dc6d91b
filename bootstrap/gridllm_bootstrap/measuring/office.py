"""What a maintainer's key does on line, inside ``gridllm bootstrap run``: it measures machines and certifies them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gridllm_bootstrap.fitness.continued import continued_fitness
from gridllm_bootstrap.limits import TRIES, Limits
from gridllm_bootstrap.measuring.authority import Authority, Event
from gridllm_bootstrap.measuring.verdicts import HONEST
from gridllm_bootstrap.measuring.waiting import AT_ONCE

if TYPE_CHECKING:
    from pathlib import Path

    from gridllm.admission.examination.stages import Pace
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.pin import Pins
    from gridllm.identity.keys import Identity
    from gridllm.ids import ModelRoot, PeerId
    from gridllm.models.manifest import Manifest
    from gridllm.swarm.interface import Swarm
    from gridllm_bootstrap.fitness.outcomes import FitnessEvent


NOT_FALSE: Final = (*HONEST, "silent", "bandwidth_short")  # reasons that a bad minute can have


@dataclass(frozen=True, slots=True)
class Office:
    """Whose key, and what the flags say."""

    maintainer: Identity
    at_once: int = AT_ONCE  # candidates measured together
    tries: int = TRIES  # of one candidate in an hour
    pace: Pace | None = None  # of examinations; None: the full one


def find_maintainer(path: Path, signed: SignedCharter) -> Identity | None:
    """The maintainer's key at ``path``; None when it is kept elsewhere, or is not one of this grid's.

    Raises:
        IdentityError: it is there and cannot be used.
    """
    from gridllm.identity.keys import load

    if not path.exists():
        return None
    maintainer = load(path)
    return maintainer if maintainer.public_key.hex() in signed.charter.maintainers else None


@asynccontextmanager
async def open_office(
    office: Office,
    swarm: Swarm,
    signed: SignedCharter,
    board: NoticeBoard,
    pins: Pins,
    tell: Callable[[Event], None],
    tell_fitness: Callable[[FitnessEvent], None] = lambda _: None,
    *,
    manifests: Mapping[ModelRoot, Manifest],
) -> AsyncIterator[Authority]:
    """Measure and certify until the block is left, and measure again whom clients find slow.

    Args:
        manifests: of all models that the grid serves; may grow.
    """
    authority: Authority | None = None

    def present(peer: PeerId) -> bool:
        return authority is not None and authority.present(peer)

    drafts = pins.notices_path(signed).parent
    upkeep = continued_fitness(
        swarm, signed, office.maintainer, board, tell=tell_fitness, present=present, drafts=drafts
    )
    async with upkeep as rechecks:

        def hear(event: Event) -> None:
            if event.kind == "failed":
                rechecks.not_admitted(event.peer, event.text, final=event.reason not in NOT_FALSE)
            tell(event)

        authority = Authority(
            swarm,
            signed,
            office.maintainer,
            board,
            manifests,
            at_once=office.at_once,
            limits=Limits(office.tries),
            pace=office.pace,
            tell=hear,
            strict=rechecks.strict,
            on_certified=rechecks.certified,
        )
        async with authority:
            yield authority
