"""The error tree. Each error says what was wrong, with the value, and what to do next.

::

    GridError
    ├── UsageError             a flag or argument cannot be used
    ├── IdentityError          the key file is missing, exposed, corrupt or in use
    ├── StatementError         a signed document is malformed, altered or signed by too few
    ├── CharterError           no grid joined, wrong grid, forged or changed charter
    ├── NoticeError            a maintainers' notice (revocation, amendment) is forged or does not apply
    ├── AdmissionError         this machine cannot be measured, or was measured and not admitted
    ├── CertificateError       a peer's admission certificate is missing, forged, expired, revoked or another's
    ├── LedgerError            the ledger's books, a statement in them, or a keeper's answer cannot be used
    ├── LeaderboardError       a submission, grade or verdict, or the leaderboard's own store, cannot be used
    ├── SwarmError             a peer or the DHT could not do what was asked
    │   ├── AddressError           a multiaddr that cannot be dialled
    │   ├── Unreachable            nobody answered at that address
    │   ├── PeerLost               a peer we were talking to went away or fell silent
    │   ├── CallTimeout            a peer took longer than agreed
    │   └── KeeperSilent           a keeper of the ledger does not answer
    │       └── PutOff                 it answers, and decides about a transfer later
    ├── WireError              bytes from a stranger that do not parse
    ├── ModelError             a model that cannot be found, verified, supported or loaded
    ├── RouteError             no chain of nodes covers the blocks asked for
    └── Refusal                a node will not do what a client or neighbour asked (has a wire code)
        ├── Malformed  UnknownSession  SessionExists  NotUpstream  WrongModel  WrongSpan
        ├── BadTensor  BadPosition  TooLarge  StaleEpoch
        ├── Full  Draining  NextHopLost  NodeFault
        ├── GaveWay                a place that was held too idly is another's now
        ├── NotHeld                a seed lacks that tensor or file
        ├── NotAdmitted            no valid certificate: said by nodes
        ├── NotEntitled  Unpaid  BadPayment            about credit: said by nodes
        ├── Insufficient  NotHome                      said by ledger keepers
        ├── NotAccepted            a submission, grade or withdrawal that the leaderboard does not take
        └── OutOfTurn  TooSoon  Revoked  Outdated  ClockSkew  WrongGrid  Disagreement   said by admission authorities
"""

from __future__ import annotations

from typing import ClassVar


class GridError(Exception):
    """Root of everything GridLLM raises on purpose; its text is shown to people as it stands."""


class UsageError(GridError):
    """A command-line flag, setting or argument cannot be used as given."""


class IdentityError(GridError):
    """The participant's key cannot be used."""


class StatementError(GridError):
    """A signed statement is malformed, altered, or signed by too few of the required keys."""


class CharterError(GridError):
    """The grid's charter is absent, forged, changed or another grid's."""


class NoticeError(GridError):
    """A notice of the maintainers is forged, malformed, or of another grid."""


class AdmissionError(GridError):
    """This machine cannot be measured, or was measured and not admitted."""


class CertificateError(GridError):
    """An admission certificate does not admit its bearer."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule
        """Which rule it breaks: missing, forged, holder, grid, model, dtype, role, early, expired or revoked."""


class LedgerError(GridError):
    """The ledger's books, a statement in them, or a keeper's answer cannot be used."""


class UnknownModel(LedgerError):
    """A statement is about a model whose manifest is not known here; its prices follow from that."""

    def __init__(self, root: str, text: str) -> None:
        super().__init__(root, text)
        self.root = root
        """Of the model; hex."""

    def __str__(self) -> str:
        return str(self.args[1])


class LeaderboardError(GridError):
    """A document of the leaderboard cannot be used, or its store cannot."""


class SwarmError(GridError):
    """The peer-to-peer layer could not do what was asked."""


class AddressError(SwarmError):
    """A multiaddr that cannot be dialled."""


class Unreachable(SwarmError):
    """Nobody answered at that address."""


class PeerLost(SwarmError):
    """A peer we were talking to went away or fell silent."""


class CallTimeout(SwarmError):
    """A peer took longer than agreed."""


class KeeperSilent(SwarmError):
    """A keeper of the ledger is not on line, does not answer, or answers what cannot be used."""

    def __init__(self, keeper: str, why: str, again_s: float = 0.0) -> None:
        """``keeper``: its key in hex; ``again_s``: for so long it is left alone, seconds."""
        later = f"; it is asked again in {again_s:.0f} s" if again_s >= 1 else ""
        super().__init__(
            f"The ledger keeper {keeper[:16]}… does not answer ({why}){later}. Try again when its maintainer's "
            f"bootstrap is on line; nothing that was paid is lost until then."
        )
        self.keeper = keeper
        self.again_s = again_s


class PutOff(KeeperSilent):
    """A keeper did not decide about a transfer yet, which is kept and can be handed in again."""

    def __init__(self, keeper: str, why: str) -> None:
        """``keeper``: its key in hex."""
        super().__init__(keeper, why)
        self.args = (
            f"The ledger keeper {keeper[:16]}… has not decided about the transfer ({why}). It is kept here: run the "
            "same command again in a while; it pays once.",
        )


class WireError(GridError):
    """Bytes from another machine that do not parse, or exceed a cap."""


class ModelError(GridError):
    """A model that cannot be found, verified, supported or loaded."""


class NoRoomError(ModelError):
    """The disk has no room for a model's files."""


class RouteError(GridError):
    """No chain of nodes covers the blocks asked for."""

    def __init__(self, message: str, uncovered: tuple[tuple[int, int], ...] = ()) -> None:
        super().__init__(message)
        self.uncovered = uncovered
        """Half-open block ranges that no usable node serves."""


class Refusal(GridError):
    """A node declined a request. ``code`` crosses the wire; ``by_code`` brings the class back."""

    code: ClassVar[str] = "refused"
    blamed: str | None = None  # the peer at fault, when it is not the one that asked
    by_code: ClassVar[dict[str, type[Refusal]]] = {}

    def __init_subclass__(cls) -> None:
        Refusal.by_code[cls.code] = cls

    @staticmethod
    def from_wire(code: str, message: str) -> Refusal:
        """Rebuild the refusal a peer sent; an unknown code becomes a plain ``Refusal``."""
        return Refusal.by_code.get(code, Refusal)(message)


class Malformed(Refusal):
    """The message does not parse, or its fields contradict each other."""

    code = "malformed"


class UnknownSession(Refusal):
    """The node holds no such session (never opened, closed, or expired)."""

    code = "unknown_session"


class SessionExists(Refusal):
    """A session of that id is open already."""

    code = "session_exists"


class NotUpstream(Refusal):
    """The sender is not the peer that this session accepts steps from."""

    code = "not_upstream"


class WrongModel(Refusal):
    """The node serves another model root or dtype."""

    code = "wrong_model"


class WrongSpan(Refusal):
    """The node does not serve the blocks asked for."""

    code = "wrong_span"


class BadTensor(Refusal):
    """The tensor has a wrong dtype, shape or length, or holds NaN or infinity."""

    code = "bad_tensor"


class BadPosition(Refusal):
    """A step starts beyond the end of its row's cache."""

    code = "bad_position"


class TooLarge(Refusal):
    """More rows, tokens or bytes than this node takes in one session or step."""

    code = "too_large"


class StaleEpoch(Refusal):
    """The step belongs to a chain that was repaired since."""

    code = "stale_epoch"


class Full(Refusal):
    """No room left in the KV cache or the queue; try another node."""

    code = "full"


class GaveWay(Refusal):
    """The peer held a place of a bounded pool while others waited, and took little; come again in a while."""

    code = "gave_way"


class Draining(Refusal):
    """The node is leaving and takes no new sessions."""

    code = "draining"


class NextHopLost(Refusal):
    """The node cannot push to the next hop of the chain."""

    code = "next_hop_lost"


class NodeFault(Refusal):
    """The node failed in a way it did not expect; the fault is the node's, not the caller's."""

    code = "node_fault"


class NotHeld(Refusal):
    """The peer does not hold that tensor or file of the model; another seed may."""

    code = "not_held"


class NotAdmitted(Refusal):
    """A peer of the chain, or the node itself, holds no valid admission certificate."""

    code = "not_admitted"


class NotEntitled(Refusal):
    """The charter's policy does not open this to the account; the text says what is lacking and how to earn it."""

    code = "not_entitled"


class Unpaid(Refusal):
    """The session was paused for a voucher, and none came."""

    code = "unpaid"


class BadPayment(Refusal):
    """A delegation, pass, escrow or voucher that was shown is forged, expired, another's or too low."""

    code = "bad_payment"


class Insufficient(Refusal):
    """The account's balance, less what is in escrow, does not cover it."""

    code = "insufficient"


class NotAccepted(Refusal):
    """The leaderboard does not take this submission, grade or withdrawal."""

    code = "not_accepted"


class NotHome(Refusal):
    """Another keeper keeps that account's books; ask that one."""

    code = "not_home"


class OutOfTurn(Refusal):
    """The message does not belong at this point of the conversation."""

    code = "out_of_turn"


class TooSoon(Refusal):
    """The peer or its address asks again sooner than it may."""

    code = "too_soon"


class Revoked(Refusal):
    """The maintainers revoked this peer's admission; the text says until when."""

    code = "revoked"


class Outdated(Refusal):
    """The candidate runs an older version than the grid asks for."""

    code = "outdated"


class ClockSkew(Refusal):
    """The two clocks differ by more than certificates tolerate."""

    code = "clock_skew"


class WrongGrid(Refusal):
    """The peer belongs to another grid."""

    code = "wrong_grid"


class Disagreement(Refusal):
    """Authorities do not agree on what they are asked to sign."""

    code = "disagreement"
