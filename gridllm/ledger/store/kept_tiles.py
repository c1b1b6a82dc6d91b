"""Tiles (``log.tiles.TileStore``) in the database."""

from __future__ import annotations

from sqlalchemy import Connection, select

from gridllm.database.upsert import upsert
from gridllm.ledger.store.schema import tiles


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
