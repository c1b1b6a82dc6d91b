"""Tiles (``log.tiles.TileStore``) in the database."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

from sqlalchemy import Connection, Select, and_, bindparam, or_, select

from gridllm.database.upsert import upsert
from gridllm.ledger.log.tiles import MemoryTiles
from gridllm.ledger.store.schema import logs, tiles


class KeptTiles:
    """The tiles of one log in one transaction: each is read once; ``save`` writes those that grew."""

    def __init__(self, connection: Connection, log: int) -> None:
        """``log``: its row number."""
        self._connection = connection
        self._log = log
        self._tiles: dict[tuple[int, int], bytes | None] = {}
        self._grown: set[tuple[int, int]] = set()

    def read(self, level: int, index: int) -> bytes | None:
        """See ``TileStore``."""
        key = level, index
        if key not in self._tiles:
            found = self._connection.execute(
                select(tiles.c.hashes).where(tiles.c.log == self._log, tiles.c.level == level, tiles.c.place == index)
            ).scalar()
            self._tiles[key] = None if found is None else bytes(found)
        return self._tiles[key]

    def write(self, level: int, index: int, hashes: bytes) -> None:
        """See ``TileStore``; on disk after ``save``."""
        self._tiles[level, index] = hashes
        self._grown.add((level, index))

    def save(self) -> None:
        """Write the tiles that grew."""
        rows = [
            {"log": self._log, "level": level, "place": index, "hashes": self._tiles[level, index]}
            for level, index in sorted(self._grown)
        ]
        upsert(self._connection, tiles, rows)
        self._grown.clear()


def read_tiles(connection: Connection, log: str, places: Collection[tuple[int, int]]) -> MemoryTiles:
    """Some tiles of the log of that name, by level and index, in one query; what there is of them."""
    asked: dict[str, str | int] = {"keeper": log}
    for number, (level, place) in enumerate(places):
        asked |= {f"level{number}": level, f"place{number}": place}
    held = MemoryTiles()
    for row in connection.execute(_select_tiles(len(places)), asked):
        held.write(row.level, row.place, bytes(row.hashes))
    return held


@cache
def _select_tiles(count: int) -> Select[tuple[int, int, bytes]]:
    """So many. Each is spelled in full: so both databases look each up by its key, and none reads a log's tiles."""
    own = tiles.c.log == select(logs.c.number).where(logs.c.keeper == bindparam("keeper")).scalar_subquery()
    one = (
        and_(own, tiles.c.level == bindparam(f"level{number}"), tiles.c.place == bindparam(f"place{number}"))
        for number in range(count)
    )
    return select(tiles.c.level, tiles.c.place, tiles.c.hashes).where(or_(*one))
