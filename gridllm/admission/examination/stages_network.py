"""Round trip, upload, download, dial-back: the authority times, and both directions' bytes are checked."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from gridllm.admission.examination.background import in_background
from gridllm.admission.examination.conversation import one_by_one
from gridllm.admission.examination.stages import Sitting
from gridllm.admission.messages import Echo, Received, Send
from gridllm.admission.proof.noise import DOWNLOAD, UPLOAD, noise, noise_digest
from gridllm.errors import GridError, OutOfTurn

log = logging.getLogger(__name__)

RTT_SHARE = 0.25  # of a transfer's time, at most, is the way there and back
SLOWEST_BYTES_PER_S = 8 * 1024  # a line slower than this is of no use here


async def measure_network(sitting: Sitting) -> None:
    """Fill in the network's figures.

    Raises:
        Refusal, SwarmError: see ``Conversation.ask``.
    """
    sitting.rtt_s = await _round_trip_s(sitting)
    sitting.figures["rtt_ms"] = round(1000 * sitting.rtt_s, 3)
    await sitting.done(0.1)
    sitting.figures["upload_mbit_s"] = await _bandwidth(sitting, "upload_mbit_s", _upload_s)
    await sitting.done(0.5)
    sitting.figures["download_mbit_s"] = await _bandwidth(sitting, "download_mbit_s", _download_s)
    await sitting.done(0.9)
    sitting.figures["reachable"] = await _reachable(sitting)


async def _round_trip_s(sitting: Sitting) -> float:
    """The quickest of a few."""
    times = []
    for _ in range(sitting.pace.echoes):
        nonce = secrets.randbelow(2**40)
        answer = await sitting.conversation.ask(Echo(nonce=nonce), Echo, timeout_s=sitting.timeout_s(1.0))
        if answer.message.nonce != nonce:
            await sitting.conversation.end(OutOfTurn("An Echo came back with another number."))
        times.append(answer.elapsed_s)
    return min(times)


async def _bandwidth(
    sitting: Sitting, name: str, transfer_s: Callable[[Sitting, int, float], Awaitable[float]]
) -> float:
    """Mbit/s: ever larger transfers, until one takes long enough; the better of the last two."""
    pace, hello = sitting.pace, sitting.examination.hello
    wanted = not sitting.examination.renewal and (sitting.examination.asks(name) or getattr(hello, name) > 0)
    most = pace.most_transfer_bytes if wanted else min(pace.unasked_transfer_bytes, pace.most_transfer_bytes)
    enough_s = max(pace.transfer_s, 4 * sitting.rtt_s)
    nbytes, expected_s = min(pace.first_transfer_bytes, most), pace.first_transfer_bytes / SLOWEST_BYTES_PER_S / 4
    speeds: list[float] = []
    while True:
        elapsed_s = await transfer_s(sitting, nbytes, sitting.timeout_s(expected_s))
        speeds.append(8e-6 * nbytes / sitting.net_s(elapsed_s, RTT_SHARE))
        if elapsed_s >= enough_s or nbytes >= most:
            return round(max(speeds[-2:]), 3)
        grown = min(4 * nbytes, most)
        expected_s = elapsed_s * grown / nbytes
        nbytes = grown


async def _upload_s(sitting: Sitting, nbytes: int, timeout_s: float) -> float:
    """Seconds from the question until all bytes, which the challenge's seed and the question give, are here."""
    nonce = secrets.token_bytes(32)
    expected = await in_background(noise_digest, sitting.seed + nonce, UPLOAD, nbytes)
    question = Send(nbytes=nbytes, nonce=nonce)
    bulk = await sitting.conversation.collect(question, most_bytes=nbytes, timeout_s=timeout_s, keep=False)
    if bulk.digest != expected:
        await sitting.conversation.end(OutOfTurn(f"{bulk.nbytes} bytes came which are not those asked for."))
    return bulk.elapsed_s


async def _download_s(sitting: Sitting, nbytes: int, timeout_s: float) -> float:
    """Seconds from the first byte sent until the proof that all arrived; nobody else knows the bytes before."""
    secret = secrets.token_bytes(32)
    expected = await in_background(noise_digest, secret, DOWNLOAD, nbytes)
    parts = one_by_one(noise(secret, DOWNLOAD, nbytes))
    answer = await sitting.conversation.deliver(parts, Received, timeout_s=timeout_s)
    if answer.message.digest != expected:
        await sitting.conversation.end(OutOfTurn("What was received is not what was sent."))
    return answer.elapsed_s


async def _reachable(sitting: Sitting) -> bool:
    dial_back = sitting.examination.dial_back
    if dial_back is None:
        return False
    try:
        async with asyncio.timeout(sitting.pace.dial_back_s):
            return await dial_back()
    except (TimeoutError, GridError) as error:
        log.info("Peer %s cannot be dialled back: %s", sitting.examination.peer, error)
        return False
