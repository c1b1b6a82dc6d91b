"""What follows from a verdict: notices and a grant. Pure, and always the same of the same verdict, so that to say it
again after a crash says nothing new.
"""

from __future__ import annotations

import hashlib
from typing import Final

from msgspec import Struct

from gridllm.charter.contest import Crown, Listing, Rules
from gridllm.charter.document import ModelEntry
from gridllm.ledger.statements import Grant
from gridllm_leaderboard.statements import Submission, Verdict

SOURCE: Final = "local"  # nodes get it from seeds, and from the leaderboard


class Shape(Struct, frozen=True):
    """What a listing says of a model beside its submission; found out when it is checked."""

    blocks: int
    hidden_size: int
    dtype: str
    block_parameters: int  # in all blocks: what its use costs


def listing(grid: str, id_: str, said: Submission, shape: Shape, tier: int, issued: int) -> Listing:
    """The grid may serve this model, to those who contributed ``tier`` micro-credits."""
    model = ModelEntry.model_validate(
        {
            "name": said.name,
            "root": said.root,
            "source": SOURCE,
            "blocks": shape.blocks,
            "parameters": said.parameters,
            "hidden_size": shape.hidden_size,
            "dtype": shape.dtype,
        }
    )
    return Listing(grid=grid, model=model, submission=id_, contribution=tier, issued=issued)


def delisting(standing: Listing, issued: int) -> Listing:
    """The same model is not served any more; later than what stands."""
    return standing.model_copy(update={"withdrawn": True, "issued": max(issued, standing.issued + 1)})


def crown_serial(standing: Crown | None, round_: int) -> int:
    """Of the next crown: its round's number, unless crowns of an older leaderboard went further."""
    return max(round_, 1 if standing is None else standing.serial + 1)


def crown(
    said: Submission, id_: str, verdict: Verdict, verdict_id: str, serial: int, former: Submission | None
) -> Crown:
    """From now on this model is the champion, in place of ``former``."""
    return Crown(
        grid=verdict.grid,
        serial=serial,
        root=said.root,
        submission=id_,
        verdict=verdict_id,
        former=None if former is None else former.root,
        issued=verdict.issued,
    )


def bounty(said: Submission, verdict: Verdict, verdict_id: str, rules: Rules) -> Grant | None:
    """What the author of a new champion gets; None: nothing."""
    if not rules.bounty or not verdict.changed:
        return None
    return Grant(
        grid=verdict.grid,
        account=said.account,
        micro=rules.bounty,
        reason=f"leaderboard: {said.name} is champion since round {verdict.round}",
        serial=hashlib.sha256(f"gridllm leaderboard bounty {verdict_id}".encode()).hexdigest()[:32],
        issued=verdict.issued,
    )
