"""Founding a grid: keys, manifests of its models, and the charter that names them, alone or with other maintainers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from gridllm.charter.address import split_address
from gridllm.charter.document import CHARTER_TYPE, NAME_PATTERN, Charter, SignedCharter, verify_charter
from gridllm.charter.minimums import DAY_S, Admission
from gridllm.errors import CharterError, UsageError
from gridllm.identity.keys import Identity, load, load_or_create
from gridllm.identity.statement import sign_statement
from gridllm_bootstrap.founding.defaults import default_admission
from gridllm_bootstrap.founding.economy_flags import EconomyWishes
from gridllm_bootstrap.founding.minimum_flags import Changes, changed
from gridllm_bootstrap.founding.offer import ModelWish, Offer, Progress, describe, name_of
from gridllm_bootstrap.home import Home
from gridllm_bootstrap.listen import Listening, first_peer_addresses
from gridllm_bootstrap.paper import Paper, paper_of, write_paper


@dataclass(frozen=True, slots=True)
class Rules:
    """Who is to be admitted, as typed."""

    open: bool = False
    certificate_s: int = DAY_S
    changes: Changes = field(default_factory=dict)  # to the default minimums
    economy: EconomyWishes = field(default_factory=EconomyWishes)

    def settled(self, offers: Sequence[Offer]) -> Admission:
        """As it stands in the charter.

        Raises:
            UsageError: a minimum that cannot be.
        """
        if self.open:
            return Admission(certificate_s=self.certificate_s)
        return changed(default_admission([offer.shape for offer in offers], self.certificate_s), self.changes)


@dataclass(frozen=True, slots=True)
class Council:
    """The other maintainers, as typed."""

    others: tuple[str, ...] = ()  # public keys in hex; the founder's own may be among them
    threshold: int | None = None  # None: a majority
    first_peers: tuple[str, ...] = ()  # multiaddrs of theirs

    def maintainers(self, own: str) -> list[str]:
        """All of them, the founder first.

        Raises:
            UsageError: one is no public key.
        """
        for key in self.others:
            if not re.fullmatch(r"[0-9a-f]{64}", key):
                raise UsageError(
                    f"{key[:80]!r} is not a maintainer's public key (64 hex digits); each maintainer gets one "
                    "with: gridllm bootstrap key"
                )
        return list(dict.fromkeys((own, *self.others)))

    def needed(self, own: str) -> int:
        """How many must sign.

        Raises:
            UsageError: more than there are.
        """
        count = len(self.maintainers(own))
        needed = self.threshold if self.threshold is not None else count // 2 + 1
        if not 1 <= needed <= count:
            raise UsageError(
                f"A threshold of {needed} does not fit {count} maintainers; name the others with --maintainer, or "
                "choose another --threshold."
            )
        return needed


@dataclass(frozen=True, slots=True)
class Founding:
    """What founding came to."""

    paper: Paper
    signed: SignedCharter | None  # None: signatures are missing
    file: Path | None  # for the other maintainers
    defaults: Admission  # what the minimums would be if nobody had chosen others


def found_grid(
    home: Home,
    name: str,
    wishes: Sequence[ModelWish],
    *,
    listening: Listening,
    progress: Progress,
    rules: Rules | None = None,
    council: Council | None = None,
) -> Founding:
    """Write keys, manifests and charter of a new grid below ``home``; nothing that exists is overwritten.

    Raises:
        UsageError: a name, address or key that cannot be used, or a grid of that name exists here.
        AddressError: a multiaddr of another first peer that cannot be dialled.
        ModelError: a model that cannot be found or served.
        CharterError, IdentityError: the folder cannot be written.
    """
    check_new(home, name)
    rules, council = rules or Rules(), council or Council()
    for address in council.first_peers:
        split_address(address)
    # Everything that can fail comes before the first file is written.
    peer, maintainer = _key_or_new(home.peer_key(name)), _key_or_new(home.maintainer_key(name))
    first_peer_addresses(peer.peer, listening.host_maddrs, listening.announce_maddrs)
    council.needed(maintainer.public_key.hex())
    rules.economy.check([name_of(wish.source) for wish in wishes])
    _check_keepers(rules.economy.keepers or (), council.maintainers(maintainer.public_key.hex()))
    offers = [describe(wish, progress) for wish in wishes]
    admission = rules.settled(offers)
    economy = rules.economy.settled([offer.entry for offer in offers], usual=not rules.open)

    maintainer, addresses = prepare_keys(home, name, listening)
    own = maintainer.public_key.hex()
    charter = Charter(
        name=name,
        maintainers=council.maintainers(own),
        threshold=council.needed(own),
        first_peers=list(dict.fromkeys((*addresses, *council.first_peers))),
        models=[offer.entry for offer in offers],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        admission=admission,
        economy=economy,
    )
    manifests = {offer.entry.model_root: offer.manifest for offer in offers}
    paper = paper_of(sign_statement(charter, CHARTER_TYPE, [maintainer]), manifests)
    file = home.founding_file(name) if len(charter.maintainers) > 1 else None
    if file is not None:
        write_paper(file, paper)
    signed = install(home, paper) if charter.threshold == 1 else None
    return Founding(paper, signed, file, default_admission([offer.shape for offer in offers]))


def prepare_keys(home: Home, name: str, listening: Listening) -> tuple[Identity, list[str]]:
    """Make (or read) this machine's keys for a grid → the maintainer's, and the first peer's multiaddrs.

    Raises:
        UsageError: an address that cannot be used.
        CharterError, IdentityError: the folder cannot be written.
    """
    first_peer_addresses(_key_or_new(home.peer_key(name)).peer, listening.host_maddrs, listening.announce_maddrs)
    maintainer, peer = load_or_create(home.maintainer_key(name)), load_or_create(home.peer_key(name))
    home.keep_listening(name, listening)
    return maintainer, first_peer_addresses(peer.peer, listening.host_maddrs, listening.announce_maddrs)


def install(home: Home, paper: Paper) -> SignedCharter:
    """Make this machine's folder ready for ``gridllm bootstrap run``; again does no harm.

    Raises:
        CharterError: signatures or manifests are missing, another grid has that name here, or nothing can be written.
    """
    signed = verify_charter(paper.raw)
    missing = [entry.name for entry in signed.charter.models if entry.model_root not in paper.manifests]
    if missing:
        raise CharterError(f"The manifest of {missing[0]!r} is missing from the file; ask its founder for it again.")
    for root, manifest in paper.manifests.items():
        home.pins.save_manifest(root, manifest)
    home.pins.pin(signed)
    return signed


def check_new(home: Home, name: str) -> None:
    """Refuse names that cannot be, and those that are taken.

    Raises:
        UsageError: one of both.
    """
    check_name(name)
    folder = home.folder(name)
    if home.founding_file(name) in home.drafts():
        raise UsageError(
            f"A charter called {name!r} waits for signatures in {home.founding_file(name)}; hand that on, or remove "
            "the file to draft another."
        )
    if folder.exists() and any(folder.iterdir()) and not home.prepared(name):  # empty: a full disk ended the last try
        raise UsageError(
            f"{folder} exists already, and founding never overwrites a grid; run: {home.run_command(name)} — or choose "
            "another name."
        )


def check_name(name: str) -> None:
    """Refuse names that cannot be a file's.

    Raises:
        UsageError: it cannot.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(
            f"A grid cannot be called {name!r}; use up to 64 letters, digits, blanks, dots, hyphens or underscores, "
            "with a letter or digit at both ends."
        )


def _check_keepers(keepers: Sequence[str], maintainers: Sequence[str]) -> None:
    """Raises UsageError: one is no maintainer."""
    for key in keepers:
        if key not in maintainers:
            raise UsageError(
                f"The keeper {key[:80]!r} is not a maintainer of this grid; name it with --maintainer, too."
            )


def _key_or_new(path: Path) -> Identity:
    return load(path) if path.exists() else Identity.ephemeral()
