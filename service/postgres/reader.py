"""Sessions as csv_reader, in which the exported SELECTs run.

A SELECT may change its session, so every session is reset before the next one.
"""

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq.abc import PGresult

from ..config import Settings
from . import libpq
from .connections import DatabaseError, complete, primary
from .libpq import Look

USES = 1000  # times that a connection is used before a new one replaces it
PATIENCE = 10.0  # seconds for the server to begin or end a transaction
SETTINGS = {
    "client_connection_check_interval": "2s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "0",
    "synchronize_seqscans": "off",
}
SNAPSHOT_AT = (
    "(extract(epoch from case when pg_is_in_recovery()"
    " then coalesce(pg_last_xact_replay_timestamp(),"
    " (select checkpoint_time from pg_control_checkpoint()))"
    " else clock_timestamp() end) * 1000000)::bigint, pg_is_in_recovery()"
)


@dataclass
class Session:
    """A connection as csv_reader, in a transaction whose snapshot was taken *at*.

    On a replica, *at* is the time of the last commit that it has replayed.
    """

    conn: psycopg.Connection[Any]
    at: datetime
    is_replica: bool
    uses: int = 1


class Sessions:
    """Connections as csv_reader, each lent to one SELECT at a time, to any thread.

    `search_path` is csv_reader's own, as the newest connection found it.

    A SELECT may change its session.  So a connection is reset after each use:
    the transaction is rolled back, and DISCARD ALL clears the session.  At most
    *keep* idle connections are kept for reuse.
    """

    def __init__(self, conninfo: str, keep: int = 0) -> None:
        params = conninfo_to_dict(conninfo)
        asked = params.get("gssencmode") or os.environ.get("PGGSSENCMODE")
        if asked == "require":
            raise DatabaseError(
                "gssencmode=require is not supported: exports cannot be read over a "
                "GSSAPI-encrypted connection. Use sslmode=require instead."
            )
        # Otherwise libpq may choose GSSAPI by itself, and we could not detect it.
        self.conninfo = make_conninfo(complete(conninfo), gssencmode="disable")
        self._keep = keep
        self._idle: list[Session] = []
        self._lock = threading.Lock()
        self.search_path: str | None = None

    def begin(
        self,
        name: str,
        time_zone: str = "UTC",
        search_path: str | None = None,
        look: Look = lambda: None,
    ) -> Session:
        """Lend a connection in a new transaction; pg_stat_activity shows *name*.

        *look* is called while this waits, and may raise to give up.  If the server
        accepts the connection and then does not answer, `OperationalError` is
        raised after `PATIENCE`.
        """
        begin = opening_statements(name, time_zone, search_path)
        with self._lock:
            session = self._idle.pop() if self._idle else None
        if session is not None:
            try:
                session.at, session.is_replica = _begin(session.conn, begin, look)
                session.uses += 1
                return session
            except psycopg.OperationalError:
                session.conn.close()  # the server has ended it in the meantime
            except BaseException:
                session.conn.close()
                raise
        # DISCARD ALL drops prepared statements that psycopg would go on using.
        conn = psycopg.connect(self.conninfo, autocommit=True, prepare_threshold=None)
        try:
            self._learn_search_path(conn, look)
            return Session(conn, *_begin(conn, begin, look))
        except BaseException:
            conn.close()
            raise

    def connect(self) -> None:
        """Make sure that csv_reader can log in, and learn its `search_path`."""
        try:
            with psycopg.connect(self.conninfo) as conn:
                self._learn_search_path(conn)
        except psycopg.OperationalError as error:
            raise DatabaseError(
                f"csv_reader, the role that runs the exports, cannot log in: {error}\n"
                "Allow it in pg_hba.conf, or set SOURCE_DATABASE_URL."
            ) from error

    def _learn_search_path(
        self, conn: psycopg.Connection[Any], look: Look = lambda: None
    ) -> None:
        # Resolve "$user" now: other roles look names up in this path later.
        result = _run(
            conn,
            b"select replace(current_setting('search_path'), '\"$user\"',"
            b" quote_ident(current_user))",
            look,
        )
        self.search_path = (result.get_value(0, 0) or b"").decode()

    def end(self, session: Session, *, reuse: bool) -> None:
        """Take the connection back; *reuse* it if nothing went wrong."""
        if reuse and session.uses < USES:
            with suppress(psycopg.Error):
                reset = (b"rollback", b"discard all")
                libpq.run_each(session.conn.pgconn, reset, PATIENCE, lambda: None)
                with self._lock:
                    if len(self._idle) < self._keep:
                        self._idle.append(session)
                        return
        session.conn.close()

    def close(self) -> None:
        with self._lock:
            self._keep = 0
            while self._idle:
                self._idle.pop().conn.close()


def _begin(
    conn: psycopg.Connection[Any], begin: bytes, look: Look
) -> tuple[datetime, bool]:
    result = _run(conn, begin, look)
    microseconds = int(result.get_value(0, 0) or b"")
    at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)
    return at, result.get_value(0, 1) == b"t"


def _run(
    conn: psycopg.Connection[Any], statements: bytes, look: Look = lambda: None
) -> PGresult:
    """Run *statements* with a time limit; return the result of the last one."""
    return libpq.run(conn.pgconn, statements, PATIENCE, look)


def opening_statements(
    name: str,
    time_zone: str,
    search_path: str | None = None,
    snapshot: str | None = None,
) -> bytes:
    """Return the statements that open a transaction of csv_reader.

    The transaction uses *search_path*, or the role's own, and the *snapshot*
    that another transaction exported, or a new one.  Settings are made here and
    not at login, because poolers refuse them there.  Settings that decide how
    values are written (`DateStyle`, for example) stay as psql would find them.
    """
    begin = "begin isolation level repeatable read read only; "
    if snapshot:
        begin += f"set transaction snapshot {_quote(snapshot)}; "
    settings = SETTINGS | {"timezone": time_zone, "application_name": name}
    if search_path is not None:
        settings["search_path"] = search_path
    chosen = [
        f"set_config({_quote(key)}, {_quote(value)}, true)"
        for key, value in settings.items()
    ]
    return f"{begin}select {SNAPSHOT_AT}, {', '.join(chosen)}".encode()


def name_with_figures(name: str, rows: int, size: int) -> str:
    """Return *name* with the figures that live_exports reads: rows and KiB, in hex."""
    return f"{name} {rows:x} {size // 1024:x}"


def _quote(text: str) -> str:
    return sql.Literal(text).as_string(None)


def reader_conninfo(settings: Settings, database_url: str) -> str:
    """Return the conninfo of csv_reader: SOURCE_DATABASE_URL, or the queue's primary."""
    conninfo = settings.source_database_url
    if conninfo is None:
        with psycopg.connect(complete(database_url)) as conn:
            row = conn.execute("select password from public.reader_login").fetchone()
        conninfo = as_reader(primary(database_url), row[0] if row else None)
    return conninfo


def as_reader(database_url: str, password: str | None) -> str:
    """Return *database_url* with csv_reader as the user, and *password*."""
    params: dict[str, Any] = conninfo_to_dict(database_url)
    return make_conninfo(**params | {"user": "csv_reader", "password": password})
