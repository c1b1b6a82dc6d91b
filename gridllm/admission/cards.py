"""Where a maintainer's services are: each signs a card with its key and keeps it in the DHT.

Authorities measure machines, keepers keep the ledger's books, the leaderboard grades models; their cards differ by the
DHT key they lie under.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, Literal

from pydantic import Field

from gridllm.admission.certificate import SKEW_S
from gridllm.charter.board import NoticeBoard
from gridllm.charter.contest import Rules
from gridllm.charter.document import SignedCharter
from gridllm.charter.fetch import CHARTER_CALL
from gridllm.errors import GridError, IdentityError, Refusal, StatementError, SwarmError
from gridllm.identity.fields import HexDigest, HexKey, Peer, Strict, UnixSeconds
from gridllm.identity.keys import Identity, public_key_of
from gridllm.identity.statement import read_unverified, sign_statement, verify_statement
from gridllm.ids import GridId, PeerId
from gridllm.swarm.interface import Stored, Swarm

log = logging.getLogger(__name__)

Office = Literal["authorities", "keepers", "leaderboards"]

CARD_TYPE: Final = "application/vnd.gridllm.authority+json"
NAME: Final = "authority"  # of the DHT record, whatever the office
CARD_LIFE_S: Final = 3 * SKEW_S  # readers' clocks may differ; of an authority that is gone, they notice when they call
CARD_EVERY_S: Final = 60.0
QUIET_S: Final = 10.0  # after the start, in which a grid's first peers may not have found each other
PROBE_S: Final = 5.0  # for an authority to show that it is there
MAX_ADDRESSES: Final = 8
READ_AT_ONCE: Final = 16  # cards; then the event loop has its turn: anyone may store below the key, up to what it holds


class AuthorityCard(Strict):
    """``maintainer`` measures machines, keeps the books, or runs the leaderboard at ``peer``. Signed by its key."""

    grid: HexDigest
    maintainer: HexKey
    peer: Peer  # who answers there; also owner of the DHT record
    addresses: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=MAX_ADDRESSES)]
    issued: UnixSeconds
    expires: UnixSeconds


def cards_key(grid: GridId, office: Office = "authorities") -> str:
    """The DHT key of a grid's authorities, keepers, or leaderboard."""
    return f"{grid}/{office}"


async def publish_card(
    swarm: Swarm,
    grid: GridId,
    maintainer: Identity,
    *,
    office: Office = "authorities",
    clock: Callable[[], float] = time.time,
) -> None:
    """Tell the grid that ``maintainer`` holds the office at this peer, for ``CARD_LIFE_S``.

    Raises:
        SwarmError: no peer accepted the card.
    """
    issued = int(clock())
    card = AuthorityCard(
        grid=grid,
        maintainer=maintainer.public_key.hex(),
        peer=swarm.peer,
        addresses=[address for address in swarm.addresses if len(address) <= 256][:MAX_ADDRESSES],
        issued=issued,
        expires=issued + CARD_LIFE_S,
    )
    raw = sign_statement(card, CARD_TYPE, [maintainer])
    if not await swarm.store(cards_key(grid, office), NAME, raw, expires_at=float(card.expires)):
        raise SwarmError(f"No peer of the grid accepted this card among its {office}; it will be tried again.")


async def keep_card(
    swarm: Swarm,
    grid: GridId,
    maintainer: Identity,
    *,
    office: Office = "authorities",
    every_s: float = CARD_EVERY_S,
) -> None:
    """Publish the card now and again until cancelled; what fails at first, while peers come on line, is not said."""
    quiet_until = time.monotonic() + QUIET_S
    while True:
        try:
            await publish_card(swarm, grid, maintainer, office=office)
        except GridError as error:
            if time.monotonic() < quiet_until:
                await asyncio.sleep(min(every_s, QUIET_S / 4))
                continue
            log.warning("This peer could not announce itself among the grid's %s: %s", office, error)
        except Exception:  # the next minute's may do: nobody finds an authority or a keeper without one
            log.exception("This peer could not announce itself among the grid's %s", office)
        await asyncio.sleep(every_s)


async def find_authorities(
    swarm: Swarm, signed: SignedCharter, *, clock: Callable[[], float] = time.time
) -> list[AuthorityCard]:
    """Cards of the grid's authorities that count now: the newest of each maintainer, sorted by maintainer.

    Raises:
        SwarmError: the DHT did not answer.
    """
    return await _find(swarm, signed, "authorities", signed.charter.maintainers, clock())


async def find_keepers(
    swarm: Swarm, signed: SignedCharter, *, clock: Callable[[], float] = time.time
) -> list[AuthorityCard]:
    """The same of the keepers of the grid's books. Raises SwarmError: the DHT did not answer."""
    return await _find(swarm, signed, "keepers", signed.charter.keepers, clock())


async def find_leaderboard(
    swarm: Swarm, signed: SignedCharter, rules: Rules | None, *, clock: Callable[[], float] = time.time
) -> AuthorityCard | None:
    """The newest card of the leaderboard: a maintainer signed it for the peer whose account the rules name.

    Args:
        rules: ``board.rules``; None: the grid has no leaderboard, and nobody is asked.

    Returns:
        None when nobody of that account announced itself lately.

    Raises:
        SwarmError: the DHT did not answer.
    """
    if rules is None:
        return None
    account = rules.account
    cards = await _find(
        swarm,
        signed,
        "leaderboards",
        signed.charter.maintainers,
        clock(),
        lambda card: _account_of(card.peer) == account,
    )
    return max(cards, key=lambda card: (card.issued, card.maintainer), default=None)


async def leaderboard_sources(
    swarm: Swarm, signed: SignedCharter, board: NoticeBoard, root: str
) -> Mapping[PeerId, tuple[str, ...]]:
    """Where the manifest and the weights of a submitted model are to be had beside seeds and nodes; it need not be
    trusted: both are checked against ``root``. Nobody for the charter's own models, without rules, or while the DHT is
    silent.
    """
    if any(entry.root == root for entry in signed.charter.models):
        return {}
    try:
        card = await find_leaderboard(swarm, signed, board.rules)
    except SwarmError as error:
        log.info("The leaderboard was not looked up: %s", error)
        return {}
    return {} if card is None else {PeerId(card.peer): tuple(card.addresses)}


async def _find(
    swarm: Swarm,
    signed: SignedCharter,
    office: Office,
    holders: Sequence[str],
    now_s: float,
    counts: Callable[[AuthorityCard], bool] = lambda _: True,
) -> list[AuthorityCard]:
    newest: dict[str, AuthorityCard] = {}
    found = await swarm.fetch(cards_key(signed.grid, office))
    for count, ((owner, name), stored) in enumerate(found.items(), 1):  # all: strangers' must not crowd theirs out
        if count % READ_AT_ONCE == 0:
            await asyncio.sleep(0)
        card = _card_of(owner, stored, signed, holders, now_s) if name == NAME else None
        if card is None or not counts(card):
            continue
        if card.maintainer not in newest or newest[card.maintainer].issued < card.issued:
            newest[card.maintainer] = card
    return [newest[maintainer] for maintainer in sorted(newest)]


async def those_answering(swarm: Swarm, cards: Sequence[AuthorityCard]) -> list[AuthorityCard]:
    """The authorities that are there now, in the order given. This peer is not its own authority."""

    async def answers(card: AuthorityCard) -> bool:
        peer = PeerId(card.peer)
        try:
            await swarm.connect(peer, tuple(card.addresses), timeout_s=PROBE_S)
            await swarm.call(peer, CHARTER_CALL, b"", timeout_s=PROBE_S)  # a connection alone proves nothing
        except Refusal:
            return True
        except GridError as error:
            log.debug("The authority of %s does not answer: %s", card.maintainer, error)
            return False
        return True

    others = [card for card in cards if card.peer != swarm.peer]
    alive = await asyncio.gather(*(answers(card) for card in others))
    return [card for card, there in zip(others, alive, strict=True) if there]


def _account_of(peer: str) -> str:
    """Hex key; of a peer with a key of another kind, none."""
    try:
        return public_key_of(peer).hex()
    except IdentityError:
        return ""


def _card_of(
    owner: PeerId, stored: Stored, signed: SignedCharter, holders: Sequence[str], now_s: float
) -> AuthorityCard | None:
    """The card in ``stored`` if one of the office's ``holders`` signed it for its owner, and it has not expired."""
    try:
        claimed, _ = read_unverified(stored.value, AuthorityCard, CARD_TYPE)
        if claimed.maintainer not in holders:
            raise StatementError("it names no maintainer of this grid that holds the office.")
        card = verify_statement(stored.value, AuthorityCard, CARD_TYPE, [bytes.fromhex(claimed.maintainer)], 1)
    except StatementError as error:
        log.debug("Left out a card stored by %s: %s", owner, error)
        return None
    if card.grid != signed.grid or card.peer != owner or not card.issued - SKEW_S <= now_s <= card.expires + SKEW_S:
        log.debug("Left out a card stored by %s: of another grid or peer, or expired", owner)
        return None
    return card
