"""``gridllm leaderboard history``: champions over time, and rounds that came to nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridllm_leaderboard.cli.asking import GridOption, JsonOption, WideOption

if TYPE_CHECKING:
    from gridllm_leaderboard.messages import Reign
    from gridllm_leaderboard.verifying.annulled import VoidRound


def history(
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw it into this PNG file.")] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw it into this SVG file.")] = None,
    wide: WideOption = False,
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the champions over time, their scores, how clearly each beat the one before, and annulled rounds.

    Example: gridllm leaderboard history --svg champions.svg
    """
    import time

    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import print_json, print_whole, room, stderr
    from gridllm_leaderboard import listings
    from gridllm_leaderboard.cli.asking import the_leaderboard
    from gridllm_leaderboard.cli.history_view import history_json, history_renderable
    from gridllm_leaderboard.verifying.annulled import verify_annulled

    async def look() -> tuple[str, list[Reign], list[VoidRound]]:
        async with the_leaderboard(grid) as link:
            found, shown = await listings.reigns(link), await listings.annulled(link)
            return link.signed.charter.name, found, verify_annulled(shown, found, link.signed, link.rules.account)

    name, found, void = run_async(look())
    now = int(time.time())
    if as_json:
        print_json(history_json(found, void))
    else:
        print_whole(history_renderable(found, name, now, room(), wide=wide, void=void))
    for path, kind in ((png, "png"), (svg, "svg")):
        if path is not None:
            from gridllm_leaderboard.cli.history_image import draw

            draw(found, name, now, path, kind)
            stderr().print(f"Drawn into {path}", markup=False)
