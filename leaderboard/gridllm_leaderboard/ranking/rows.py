"""The ranking as people see it: places and what is known of each model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from gridllm.charter.economy import Prices
from gridllm.ledger.prices import Count, price
from gridllm_leaderboard.messages import Interval, RankRow
from gridllm_leaderboard.ranking.places import Placed
from gridllm_leaderboard.records import Entry

TOKENS: Final = 1000  # that a model's cost is told for


def rows(
    placed: Iterable[Placed],
    entries: Mapping[str, Entry],
    champion: str | None,
    prices: Prices,
    blocks: Mapping[str, int],
    rules: int = 0,
    current: bool = True,
) -> list[RankRow]:
    """A page of the ranking.

    Args:
        placed: of the page (``places``), from which withdrawn models were left out before if they should be.
        entries: by submission; models that are not among them are left out.
        champion: submission of the reigning one.
        prices: of the grid's charter.
        blocks: parameters in all blocks, by root. A model that is not among them costs as if all its parameters were
            in blocks: a little too much, for embedding and head are the client's own.
        rules, current: of ``RankRow``.
    """
    page = [(one, entries[one.mark.submission]) for one in placed if one.mark.submission in entries]
    costs = [cost(prices, blocks.get(entry.submission.root, entry.submission.parameters)) for _, entry in page]
    return [_row(one, entry, champion, micro, rules, current) for (one, entry), micro in zip(page, costs, strict=True)]


def cost(prices: Prices, parameters: int) -> int:
    """Micro-credits for ``TOKENS`` tokens of decoding through that many parameters of blocks."""
    return price(prices, parameters, Count(decode=TOKENS))


def _row(placed: Placed, entry: Entry, champion: str | None, micro: int, rules: int, current: bool) -> RankRow:
    mark, said = placed.mark, entry.submission
    return RankRow(
        place=placed.place,
        submission=entry.id,
        name=said.name,
        account=said.account,
        root=said.root,
        parameters=said.parameters,
        license=said.license,
        score=Interval(mark.score, mark.low, mark.high),
        tasks={task: Interval(*found) for task, found in mark.tasks.items()},
        cost=micro,
        issued=said.issued,
        round=mark.round,
        state=entry.state,
        champion=entry.id == champion,
        serve=said.serve,
        rules=rules,
        current=current,
    )
