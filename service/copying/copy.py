"""Copy one export, from its SELECT to a stream of bytes: by one pump, or by lanes."""

import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
from psycopg import errors

from ..model import Column, Format, Limit, Sliceable
from ..postgres.connections import sever
from ..postgres.reader import (
    Session,
    Sessions,
    name_with_figures,
    opening_statements,
)
from . import command, lanes, statement
from .compression import compressor
from .encoding import recoder
from .lane import Setup, Slice
from .pump import RowsMissing, pump

LONGEST_SLICED = 32_000  # characters of a SELECT: the orders must fit into a pipe
STOP_PATIENCE = 2.0  # seconds for the server to obey a cancel
TELL_EVERY = 0.1  # seconds between updates of the figures that live_exports shows

Write = Callable[[bytes | memoryview], None]


class Stopped(Exception):
    """`stop` was called."""


class LanesFailed(Exception):
    """Lanes could not copy the export, but a single stream may; the message says why."""


class NotEncodable(Exception):
    """A row has a character that the encoding of the file or the database lacks."""


class TooLarge(Exception):
    """The file has more bytes, or more rows, than are allowed."""


class NotThereYet(Exception):
    """A replica refuses the SELECT, perhaps only because it lags behind its primary."""


class Copy:
    """The copy of one SELECT.

    `run` occupies its thread; everything else may be used from other threads.
    While it runs, `rows` and `bytes` grow, and so does `share`, the part that is
    done, from 0 to 1, or None if it is not known.  After it, `columns` and
    `snapshot_at` describe the result.
    """

    def __init__(
        self,
        sessions: Sessions,
        name: str,
        sql: str,
        form: Format | None = None,
        *,
        search_path: str | None = None,
        relations: dict[str, str] | None = None,
        settings: dict[str, str] | None = None,
        max_bytes: Limit | None = None,
        max_rows: Limit | None = None,
        sliceable: Sliceable | None = None,
        pool: lanes.Lanes | None = None,
    ) -> None:
        self._sessions = sessions
        self._name = name
        self._sql = sql
        self._form = form or Format()
        self._search_path = search_path
        self._relations = relations
        self._settings = settings
        self._max_bytes = max_bytes or Limit(sys.maxsize, "")
        self._max_rows = max_rows or Limit(sys.maxsize, "")
        self._sliceable = sliceable
        self._pool = pool
        self._lanes: list[lanes.Lane] = []
        self._stop = threading.Event()
        self._stopped_at = 0.0
        # Guards `_session` and `_lanes`: `stop` must not cancel what has been given
        # back already.
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._written = 0
        self.rows = 0
        self.bytes = 0
        self.share: float | None = None
        self.columns: list[Column] = []
        self.snapshot_at: datetime | None = None

    def run(self, write: Write, *, by_lanes: bool = True) -> None:
        """Pass the whole file to *write*, block by block.

        Lanes need more than a single stream does: rights on the partitions of a
        table, and a snapshot that other sessions can use.  If they fail, this raises
        `LanesFailed`: start the file again, and call this with `by_lanes=False`.

        Raises `psycopg.Error`, `statement.NotASelect`, `statement.MeansAnother`,
        `NotEncodable`, `NotThereYet`, `Stopped`, `TooLarge`, and any error of
        *write*.  The file is complete if, and only if, this returns.
        """
        self.rows = self.bytes = self._written = 0
        self.share = None
        session = self._sessions.begin(
            self._name,
            self._form.time_zone,
            self._search_path,
            self._look,
            self._settings,
        )
        self.snapshot_at = session.at
        with self._lock:
            self._session = session
        whole = False
        try:
            self._check(session)
            limited = self._limited(write)
            if not (by_lanes and self._by_lanes(session.conn, limited)):
                self._by_pump(session.conn, limited)
            whole = True
        except (
            errors.UntranslatableCharacter,
            errors.CharacterNotInRepertoire,
        ) as error:
            raise NotEncodable(
                f"row {self.rows + 1:,}: {error.diag.message_primary}"
            ) from error
        finally:
            with self._lock:
                self._session = None
            self._sessions.end(session, reuse=whole and not self._stop.is_set())

    def stop(self) -> None:
        """Make `run` raise `Stopped` soon, and the server cancel the statement.

        A cancel has no effect if it arrives before the statement does: repeat the
        call until `run` has returned.  After `STOP_PATIENCE`, a call severs the
        connection.
        """
        now = time.monotonic()
        if not self._stop.is_set():
            self._stopped_at = now
            self._stop.set()
        with self._lock:
            for lane in self._lanes:
                lane.stop()
            if self._session is not None:
                if now - self._stopped_at > STOP_PATIENCE:
                    sever(self._session.conn)
                elif not self._lanes:
                    self._session.conn.cancel_safe(timeout=STOP_PATIENCE)

    def _check(self, session: Session) -> None:
        """Learn the columns; raise if the SELECT no longer means the same."""
        try:
            pgconn = session.conn.pgconn
            self.columns = statement.check(
                pgconn, self._sql, self._search_path, self._look
            )
            if self._relations:
                statement.check_meaning(pgconn, self._relations, self._look)
        except (
            psycopg.ProgrammingError,
            statement.NotASelect,
            statement.MeansAnother,
        ) as error:
            if session.is_replica:
                said = isinstance(error, psycopg.Error) and error.diag.message_primary
                raise NotThereYet(
                    f"{said or error} (on a replica, which may lag behind)"
                ) from error
            raise

    def _limited(self, write: Write) -> Write:
        def limited(block: bytes | memoryview) -> None:
            self._written += len(block)
            if self._written > self._max_bytes.most:
                raise TooLarge(
                    f"the file would be larger than {self._max_bytes.most:,} bytes,"
                    f" which is {self._max_bytes.name}"
                )
            write(block)

        return limited

    def _by_pump(self, conn: psycopg.Connection[Any], write: Write) -> None:
        recode = recoder(self._form.encoding)
        compress = compressor(self._form.compression)

        def converted(block: bytes) -> None:
            if recode:
                block = recode(block)
            if compress:
                block = compress.compress(block)
            if block:
                write(block)

        pump(
            conn.pgconn,
            command.copy_command(self._sql, self.columns, self._form),
            converted if recode or compress else write,
            self._count,
            self._look,
            header=bool(self._form.header),
            bom=bool(self._form.bom),
            crlf=self._form.line_ending == "crlf",
        )
        if compress:
            write(compress.flush())

    def _count(self, rows: int, size: int) -> None:
        self.rows, self.bytes = rows, size
        if rows > self._max_rows.most:
            raise TooLarge(
                f"the file would have more than {self._max_rows.most:,} rows,"
                f" which is {self._max_rows.name}"
            )

    def _look(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _cutter(self, conn: psycopg.Connection[Any]) -> lanes.Cutter | None:
        """Return a cutter for the table, or None if slices are not worth it."""
        if self._sliceable is None or self._pool is None:
            return None
        if len(self._sql) > LONGEST_SLICED:
            return None
        extents = lanes.extents(conn, self._sliceable.source, self._sql)
        if not extents:
            return None
        cutter = lanes.Cutter(extents)
        return cutter if cutter.blocks >= lanes.WORTH_IT else None

    def _by_lanes(self, conn: psycopg.Connection[Any], write: Write) -> bool:
        """Copy by lanes and return true, if that is worth it and lanes are free."""
        try:
            cutter = self._cutter(conn)
            return cutter is not None and self._run_lanes(conn, cutter, write)
        except (psycopg.Error, lanes.LaneLost, RowsMissing, UnicodeError) as error:
            self._look()
            raise LanesFailed(str(error).strip()) from error

    def _run_lanes(
        self, conn: psycopg.Connection[Any], cutter: lanes.Cutter, write: Write
    ) -> bool:
        """Copy by lanes and return true; if none are free, do nothing, return false."""
        assert self._pool
        taken = self._pool.take()
        if not taken:
            return False
        with self._lock:
            self._lanes = taken
        whole = False
        try:
            row = conn.execute("select pg_export_snapshot()").fetchone()
            assert row
            zone = self._form.time_zone
            setup = Setup(
                self._sessions.conninfo,
                opening_statements(
                    f"lane {self._name}",
                    zone,
                    self._search_path,
                    snapshot=row[0],
                    settings=self._settings,
                ),
                self._form.compression,
                self._form.encoding,
                self._form.line_ending == "crlf",
            )
            told_at = 0.0
            for sliced in lanes.run(
                taken, setup, cutter, self._slice, write, self._look
            ):
                self._count(self.rows + sliced.rows, self.bytes + sliced.bytes)
                self.share = cutter.share
                if time.monotonic() - told_at > TELL_EVERY:
                    told_at = time.monotonic()
                    self._tell(conn)
            whole = True
        finally:
            with self._lock:
                self._lanes = []
            self._pool.give(taken, whole=whole)
        return True

    def _slice(self, relation: str, condition: str, first: bool) -> Slice:
        assert self._sliceable
        header = first and bool(self._form.header)
        form = self._form.model_copy(update={"header": header})
        select = self._sliceable.select(relation, condition)
        copying = command.copy_command(select, self.columns, form)
        return Slice(copying, header, first and bool(self._form.bom))

    def _tell(self, conn: psycopg.Connection[Any]) -> None:
        """Show the figures in pg_stat_activity, which needs no write to a table."""
        name = name_with_figures(self._name, self.rows, self.bytes)
        conn.execute("select set_config('application_name', %s, true)", [name])
