"""The pool of connections that serves the queue, as the role in `DATABASE_URL`."""

import json
import select
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import set_json_dumps
from psycopg_pool import AsyncConnectionPool

from .connections import bounded, primary

PATIENCE = 2.0  # seconds until a connection of the pool
# Of the queue's connections: what psycopg reads, and our functions where no path leads.
SETTINGS = {"DateStyle": "ISO", "IntervalStyle": "postgres"}

Pool = AsyncConnectionPool[psycopg.AsyncConnection[DictRow]]


def open_pool(database_url: str, size: int) -> Pool:
    """Return a pool, not open yet, whose connections commit each statement.

    While the server is away it refuses within `PATIENCE`; once the server
    is back, so is the pool.
    """

    async def check(conn: psycopg.AsyncConnection[Any]) -> None:
        # An idle connection has nothing to read, unless the server ended it;
        # so this costs no round trip.
        poller = select.poll()
        poller.register(conn.fileno(), select.POLLIN)
        if poller.poll(0):
            try:
                with bounded(conn, PATIENCE):
                    await conn.execute("")
            except psycopg.OperationalError:
                await pool.drain()  # the others are most likely dead as well
                raise

    async def configure(conn: psycopg.AsyncConnection[Any]) -> None:
        set_json_dumps(_dump_json, conn)
        # Only where the database, or the role, says otherwise: a transaction
        # pooler hands what is set here to other sessions as well.
        for name, value in SETTINGS.items():
            told = conn.pgconn.parameter_status(name.encode()) or b""
            if not told.decode().startswith(value):
                await conn.execute(f"set {name} to '{value}'")
        cursor = await conn.execute(
            "select to_regclass('exports') is not distinct from"
            " to_regclass('public.exports') as found"
        )
        row = await cursor.fetchone()
        if row and not row["found"]:
            await conn.execute("set search_path to public")

    pool: Pool = AsyncConnectionPool(
        primary(database_url),
        min_size=1,
        max_size=size,
        open=False,
        name="queue",
        timeout=PATIENCE,
        # Then it gives up, and tries again at once when somebody asks.
        reconnect_timeout=PATIENCE,
        check=check,
        configure=configure,
        # Named prepared statements do not survive a pooler between us.
        kwargs={"autocommit": True, "row_factory": dict_row, "prepare_threshold": None},
        connection_class=psycopg.AsyncConnection[DictRow],
    )
    return pool


def _dump_json(value: object) -> str:
    """Return JSON without escapes, which a database not in UTF-8 may not take."""
    return json.dumps(value, ensure_ascii=False)
