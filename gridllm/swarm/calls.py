"""What crosses in a unary call: the answer, or the error that the handler raised, as code and text."""

from __future__ import annotations

import logging
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gridllm.errors import GridError, NodeFault, Refusal, SwarmError, TooLarge, WireError
from gridllm.ids import PeerId
from gridllm.swarm.interface import MAX_CALL_BYTES, CallHandler
from gridllm.wire.strict import UNPARSABLE

log = logging.getLogger(__name__)

FAILED: Final = "failed"  # code of a GridError that is not a Refusal
MAX_TEXT_CHARS: Final = 1024


class Answer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Callee → caller."""

    payload: bytes | None  # what the handler returned; None: it raised
    code: Annotated[str, Meta(max_length=32)] = ""  # Refusal.code, or FAILED
    text: Annotated[str, Meta(max_length=MAX_TEXT_CHARS)] = ""  # one sentence for people


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Answer)


def check_size(what: str, payload: bytes) -> None:
    """Refuse what a unary call cannot carry.

    Raises:
        TooLarge: more than ``MAX_CALL_BYTES``.
    """
    if len(payload) > MAX_CALL_BYTES:
        raise TooLarge(f"{what} of {len(payload)} bytes exceeds the {MAX_CALL_BYTES} of a call; send it in pieces.")


async def answer_call(name: str, handler: CallHandler, peer: PeerId, payload: bytes) -> bytes:
    """Run the handler; returns the encoded Answer, whatever happens in there."""
    try:
        check_size("A request", payload)
        result = await handler(peer, payload)
        check_size("An answer", result)
        answer = Answer(result)
    except Refusal as refusal:
        answer = Answer(None, refusal.code, str(refusal)[:MAX_TEXT_CHARS])
    except GridError as error:
        answer = Answer(None, FAILED, str(error)[:MAX_TEXT_CHARS])
    except Exception:
        log.exception("The handler of call %s failed", name)  # the caller gets no innards of ours
        answer = Answer(None, NodeFault.code, f"The peer failed to answer {name}; the fault is its own.")
    return _encoder.encode(answer)


def open_answer(peer: PeerId, raw: bytes) -> bytes:
    """The payload of an encoded Answer.

    Raises:
        Refusal: the handler declined (the subclass of its code).
        SwarmError: the handler failed with another named error.
        WireError: no Answer.
    """
    try:
        answer = _decoder.decode(raw)
    except UNPARSABLE as error:
        raise WireError(f"Peer {peer} answered a call with something that does not parse: {error}.") from error
    if answer.payload is not None:
        return answer.payload
    if answer.code == FAILED:
        raise SwarmError(f"Peer {peer} could not answer: {answer.text}")
    raise Refusal.from_wire(answer.code, answer.text)
