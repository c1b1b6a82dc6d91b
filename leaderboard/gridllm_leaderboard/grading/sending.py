"""Hands in what was signed: first the results' lists, then the grade. Said twice, it does no harm."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.link import LeaderboardLink
from gridllm_leaderboard.messages import PIECE_BYTES, PUT_GRADE_CALL, PUT_LINES_CALL, PutGrade, PutLines, Taken
from gridllm_leaderboard.results import lines_root
from gridllm_leaderboard.statements import Failure, Grade, verify_document


async def send(
    link: LeaderboardLink, delegation: bytes, folder: Path, raw: bytes, failure: bool
) -> tuple[Grade | None, Failure | None]:
    """Hand in one envelope, with the results that lie in ``folder``.

    Raises:
        LeaderboardError: the results are not those that were signed for.
        SwarmError, Refusal, WireError: the leaderboard does not take it.
    """
    account = link.rules.account
    if failure:
        said = verify_document(raw, Failure, link.signed.grid, account)
        await link.ask(PUT_GRADE_CALL, PutGrade(raw, failure=True), Taken)
        return None, said
    grade = verify_document(raw, Grade, link.signed.grid, account)
    for one in grade.tasks:
        lines = await asyncio.to_thread((folder / f"{one.task}.results.jsonl").read_bytes)
        if await asyncio.to_thread(lines_root, lines) != one.results:
            raise LeaderboardError(
                f"{folder} holds other results of {one.task} than were signed for; restore the file."
            )
        await put_lines(link, delegation, one.results, lines)
    await link.ask(PUT_GRADE_CALL, PutGrade(raw), Taken)
    return grade, None


async def put_lines(link: LeaderboardLink, delegation: bytes, root: str, lines: bytes) -> None:
    """Hand in one list, from where the leaderboard has it. Raises as ``send``."""
    offset = 0
    while True:
        piece = lines[offset : offset + PIECE_BYTES]
        taken = await link.ask(PUT_LINES_CALL, PutLines(delegation, root, len(lines), offset, piece), Taken)
        if taken.known or taken.offset >= len(lines):
            return
        if taken.offset == offset and piece:
            raise LeaderboardError(f"The leaderboard takes no results beyond byte {offset} of {len(lines)}.")
        offset = taken.offset
