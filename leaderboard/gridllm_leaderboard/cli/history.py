"""``gridllm leaderboard history``: champions over time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridllm_leaderboard.cli.asking import GridOption, JsonOption, WideOption


def history(
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it into this PNG file, too.")] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it into this SVG file, too.")] = None,
    wide: WideOption = False,
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the champions over time: their scores, and by how much each beat the one before.

    Example: gridllm leaderboard history --svg champions.svg
    """
    import time

    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import print_json, room, stderr
    from gridllm_leaderboard.cli.asking import print_whole, reigns, the_leaderboard
    from gridllm_leaderboard.cli.history_view import history_json, history_renderable
    from gridllm_leaderboard.messages import Reign

    async def look() -> tuple[str, list[Reign]]:
        async with the_leaderboard(grid) as link:
            return link.signed.charter.name, await reigns(link)

    name, found = run_async(look())
    now = int(time.time())
    if as_json:
        print_json(history_json(found))
    else:
        print_whole(history_renderable(found, name, now, room(), wide=wide))
    for path, kind in ((png, "png"), (svg, "svg")):
        if path is not None:
            from gridllm_leaderboard.cli.history_image import draw

            draw(found, name, now, path, kind)
            stderr().print(f"Drawn into {path}", markup=False)
