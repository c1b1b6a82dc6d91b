"""PostgreSQL connections that wait in a pool: durable whatever the server is set to, and known to stand when used."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

PING_AFTER_S: Final = 1.0  # that a connection rested
RESTS_SINCE: Final = "gridllm_rests_since"  # time.monotonic(), noted with the connection


def look_after(engine: Engine) -> None:
    """Prepare each connection of the engine, and look whether it stands when it has rested for a while.

    SQLAlchemy's own ``pool_pre_ping`` asks before every transaction: that is a round trip more for each question.
    """
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "checkin", _note_rest)
    event.listen(engine, "checkout", partial(_ping_rested, engine))


def _prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    """A server may be set to answer before it has written; for us it writes first."""
    cursor = connection.cursor()
    cursor.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    cursor.close()
    connection.commit()


def _note_rest(_connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
    entry.info[RESTS_SINCE] = time.monotonic()


def _ping_rested(
    engine: Engine, connection: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection
) -> None:
    if RESTS_SINCE not in entry.info or time.monotonic() - entry.info[RESTS_SINCE] < PING_AFTER_S:
        return
    try:
        engine.dialect.do_ping(connection)
    except engine.dialect.loaded_dbapi.Error as error:
        raise InvalidatePoolError(str(error)) from error  # a server that was restarted: the pool connects anew
