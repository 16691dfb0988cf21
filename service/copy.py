"""The pump: one SELECT into one stream of bytes, at the speed of libpq.

One CopyData message is one row, so rows are counted exactly and for free.
psycopg's `cursor.copy` is several times slower, and `get_copy_data(0)` blocks
with the interpreter lock held; hence this loop, which never blocks inside
libpq, in a thread of its own.
"""

import select
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import Any

import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from . import db, fence

BLOCK = 128 * 1024  # bytes collected before each write: larger ones miss the cache
STOP_PATIENCE = 2.0  # seconds for the server to obey a cancel
CHECK_EVERY = 500  # milliseconds between looks at `stop` while nothing arrives


class Stopped(Exception):
    """Somebody called `stop`."""


class RowsMissing(Exception):
    """PostgreSQL sent another number of rows than it says it did."""


class TooLarge(Exception):
    """The file grew beyond MAX_EXPORT_BYTES."""


class Copy:
    """One SELECT being copied.  `run` takes a thread; all else is for any other.

    `rows` and `bytes` grow while it runs; then `columns` and `snapshot_at` tell
    what it was.
    """

    def __init__(
        self,
        conninfo: str,
        name: str,
        sql: str,
        form: fence.Format | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self._conninfo = conninfo
        self._name = name
        self._sql = sql
        self._form = form or fence.Format()
        self._max_bytes = max_bytes or sys.maxsize
        self._stop = threading.Event()
        self._stopped_at = 0.0
        self._conn: psycopg.Connection | None = None
        self.rows = 0
        self.bytes = 0
        self.columns: list[fence.Column] = []
        self.snapshot_at: datetime | None = None

    def run(self, write: Callable[[bytearray], None]) -> None:
        """Pass the whole file to *write*, block by block.

        Raises `psycopg.Error`, `fence.NotASelect`, `Stopped`, `TooLarge`, or
        whatever *write* raises; the file is whole if, and only if, it returns.
        """
        conn, self.snapshot_at = db.open_source(
            self._conninfo, self._name, self._form.time_zone
        )
        with closing(conn):
            self._conn = conn
            self.columns = fence.check(conn, self._sql)
            self._pump(conn.pgconn, write)

    def stop(self) -> None:
        """Make `run` raise `Stopped` soon, and the server drop its statement.

        A cancel that arrives before the statement is lost: call it again
        until `run` has returned.  After `STOP_PATIENCE` it severs the connection.
        """
        now = time.monotonic()
        if not self._stop.is_set():
            self._stopped_at = now
            self._stop.set()
        if (conn := self._conn) is not None and not conn.closed:
            if now - self._stopped_at > STOP_PATIENCE:
                db.sever(conn)
            else:
                conn.cancel_safe(timeout=STOP_PATIENCE)

    def _pump(self, pgconn: PGconn, write: Callable[[bytearray], None]) -> None:
        self._raise_if_stopped()
        poller = select.poll()
        poller.register(pgconn.socket, select.POLLIN)
        command = fence.copy_command(self._sql, self.columns, self._form)
        pgconn.send_query_params(command, None)
        pgconn.flush()
        while pgconn.is_busy():
            self._await_input(pgconn, poller)
        started = pgconn.get_result()
        assert started
        fence.expect(started, ExecStatus.COPY_OUT)

        get = pgconn.get_copy_data
        block = bytearray(b"\xef\xbb\xbf" if self._form.bom else b"")
        rows = -1 if self._form.header else 0  # the header is a message too
        crlf = self._form.line_ending == "crlf"
        written = 0
        while True:
            size, row = get(1)
            if size > 0:
                if crlf:
                    block += row[:-1]
                    block += b"\r\n"
                else:
                    block += row
                rows += 1
                if len(block) >= BLOCK:
                    self._count(rows, written + len(block))
                    write(block)
                    written += len(block)
                    block.clear()
                    self._raise_if_stopped()
            elif size == 0:
                self._count(rows, written + len(block))
                self._await_input(pgconn, poller)
            else:
                break
        self._count(rows, written + len(block))
        write(block)
        ended = pgconn.get_result()
        assert ended
        fence.expect(ended, ExecStatus.COMMAND_OK)
        if ended.command_tuples != rows:
            raise RowsMissing(
                f"{rows} rows arrived, but {ended.command_tuples} were sent"
            )

    def _count(self, rows: int, size: int) -> None:
        self.rows, self.bytes = max(rows, 0), size
        if size > self._max_bytes:
            raise TooLarge(
                f"the file would be larger than {self._max_bytes:,} bytes,"
                " which is MAX_EXPORT_BYTES"
            )

    def _await_input(self, pgconn: PGconn, poller: select.poll) -> None:
        while not poller.poll(CHECK_EVERY):
            self._raise_if_stopped()
        pgconn.consume_input()

    def _raise_if_stopped(self) -> None:
        if self._stop.is_set():
            raise Stopped


def preview(
    conninfo: str, sql: str, form: fence.Format, limit: int
) -> tuple[list[fence.Column], list[dict[str, Any]]]:
    """Return the columns and the first rows, as JSON has them, of a checked SELECT."""
    conn, _ = db.open_source(conninfo, "preview", form.time_zone)
    with closing(conn):
        conn.execute("set local statement_timeout to '5s'")
        columns = fence.check(conn, sql)
        shown = f"select row_to_json(export) from (\n{sql}\n) as export limit {limit:d}"
        # Prepared alone above, so that nothing in it leaves the parentheses.
        rows = conn.execute(shown.encode(), prepare=True).fetchall()
    return columns, [row for (row,) in rows]
