"""The pool of connections for the queue, logged in as the role in `DATABASE_URL`."""

import json
import select
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import set_json_dumps
from psycopg_pool import AsyncConnectionPool

from .connections import bounded, primary

PATIENCE = 2.0  # seconds to wait for a connection of the pool
# The formats that psycopg can read.
SETTINGS = {"DateStyle": "ISO", "IntervalStyle": "postgres"}

Pool = AsyncConnectionPool[psycopg.AsyncConnection[DictRow]]


def open_pool(database_url: str, size: int) -> Pool:
    """Return a pool, not open yet, whose connections are in autocommit.

    While the server is unreachable, asking for a connection fails within
    `PATIENCE`.  Once the server is back, the pool works again.
    """

    async def check(conn: psycopg.AsyncConnection[Any]) -> None:
        # An idle connection is readable only if the server has ended it, so
        # this check needs no round trip.
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
        # Set only what the database or the role sets differently: behind a
        # transaction pooler, other clients get the sessions changed here.
        for name, value in SETTINGS.items():
            told = conn.pgconn.parameter_status(name.encode()) or b""
            if not told.decode().startswith(value):
                await conn.execute(f"set {name} to '{value}'")
        # Our functions must be found even if the search_path does not lead there.
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
        # After that the pool stops reconnecting, until the next request for a
        # connection.
        reconnect_timeout=PATIENCE,
        check=check,
        configure=configure,
        # Named prepared statements do not work through a transaction pooler.
        kwargs={"autocommit": True, "row_factory": dict_row, "prepare_threshold": None},
        connection_class=psycopg.AsyncConnection[DictRow],
    )
    return pool


def _dump_json(value: object) -> str:
    """Return JSON without Unicode escapes: a database not in UTF-8 may refuse them."""
    return json.dumps(value, ensure_ascii=False)
