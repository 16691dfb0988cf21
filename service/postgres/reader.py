"""Sessions as a reader, in which the exported SELECTs run.

A reader is a login role: csv_reader, or one that add_reader has made for some of the
requesters.  A SELECT may change its session, so every session is reset before the next
one, and never lent to another reader.
"""

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq.abc import PGresult

from ..config import Settings
from . import libpq
from .connections import DatabaseError, complete, primary
from .libpq import Look

READER = "csv_reader"  # of everybody who has no other
USES = 1000  # times that a connection is used before a new one replaces it
PATIENCE = 10.0  # seconds for the server to begin or end a transaction
SETTINGS = {
    "client_connection_check_interval": "2s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "0",
    "synchronize_seqscans": "off",
}
# That of csv_reader has a table of its own, from before there were others.
PASSWORD = (
    "select case name when 'csv_reader' then (select password from public.reader_login)"
    " else password end from public.readers where name = $1"
)
SNAPSHOT_AT = (
    "(extract(epoch from case when pg_is_in_recovery()"
    " then coalesce(pg_last_xact_replay_timestamp(),"
    " (select checkpoint_time from pg_control_checkpoint()))"
    " else clock_timestamp() end) * 1000000)::bigint, pg_is_in_recovery()"
)


@dataclass
class Session:
    """A connection as *reader*, in a transaction whose snapshot was taken *at*.

    On a replica, *at* is the time of the last commit that it has replayed.
    """

    conn: psycopg.Connection[Any]
    at: datetime
    is_replica: bool
    reader: str = READER
    settings: Mapping[str, str] = field(default_factory=dict)
    uses: int = 1


class Idle:
    """Connections that wait for their next use: the last *keep* that were used."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._sessions: list[Session] = []
        self._lock = threading.Lock()

    def take(self, reader: str, settings: Mapping[str, str]) -> Session | None:
        """Return a connection of *reader* that has had no other *settings*."""
        with self._lock:
            for session in reversed(self._sessions):
                if (session.reader, session.settings) == (reader, settings):
                    self._sessions.remove(session)
                    return session
        return None

    def put(self, session: Session) -> None:
        with self._lock:
            self._sessions.append(session)
            surplus = self._sessions[: max(0, len(self._sessions) - self._keep)]
            del self._sessions[: len(surplus)]
        for one in surplus:
            one.conn.close()

    def close(self) -> None:
        with self._lock:
            self._keep = 0
            while self._sessions:
                self._sessions.pop().conn.close()


class Sessions:
    """Connections as one reader, each lent to one SELECT at a time, to any thread.

    `search_path` is the reader's own, as the newest connection found it.

    A SELECT may change its session.  So a connection is reset after each use:
    the transaction is rolled back, and DISCARD ALL clears the session.  Then it may
    wait among the *idle* ones, which other readers share but do not get.

    *source* is a conninfo, or returns one: it is asked at the first use, and again
    after a login has failed.
    """

    def __init__(
        self,
        source: str | Callable[[], str],
        keep: int = 0,
        *,
        reader: str = READER,
        idle: Idle | None = None,
    ) -> None:
        self.reader = reader
        self._find = source if callable(source) else lambda: source
        self._conninfo = None if callable(source) else _readable(source)
        self._idle = idle or Idle(keep)
        self.search_path: str | None = None

    @property
    def conninfo(self) -> str:
        """Where to connect; may wait for the database of the queue."""
        if self._conninfo is None:
            self._conninfo = _readable(self._find())
        return self._conninfo

    def begin(
        self,
        name: str,
        time_zone: str = "UTC",
        search_path: str | None = None,
        look: Look = lambda: None,
        settings: Mapping[str, str] | None = None,
    ) -> Session:
        """Lend a connection in a new transaction; pg_stat_activity shows *name*.

        *look* is called while this waits, and may raise to give up.  If the server
        accepts the connection and then does not answer, `OperationalError` is
        raised after `PATIENCE`.
        """
        settings = settings or {}
        begin = opening_statements(name, time_zone, search_path, settings=settings)
        session = self._idle.take(self.reader, settings)
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
        conn = self._log_in()
        try:
            self._learn_search_path(conn, look)
            return Session(conn, *_begin(conn, begin, look), self.reader, settings)
        except BaseException:
            conn.close()
            raise

    def _log_in(self) -> psycopg.Connection[Any]:
        # DISCARD ALL drops prepared statements that psycopg would go on using.
        try:
            return psycopg.connect(
                self.conninfo, autocommit=True, prepare_threshold=None
            )
        except psycopg.OperationalError:
            self._conninfo = None  # the password may be another one by now
            raise

    def connect(self) -> None:
        """Make sure that the reader can log in, and learn its `search_path`."""
        self.conninfo  # an error of the queue's database is none of the login
        try:
            with self._log_in() as conn:
                self._learn_search_path(conn)
        except psycopg.OperationalError as error:
            raise DatabaseError(
                f"{self.reader}, a role that runs exports, cannot log in: {error}\n"
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
                self._idle.put(session)
                return
        session.conn.close()

    def close(self) -> None:
        self._idle.close()


class Readers:
    """The `Sessions` of each reader; together they keep a connection for each slot."""

    def __init__(self, settings: Settings, database_url: str) -> None:
        self._settings = settings
        self._database_url = database_url
        self._idle = Idle(settings.worker_slots)
        self._known: dict[str, Sessions] = {}

    def of(self, reader: str = READER) -> Sessions:
        """Return the sessions of *reader*; does not wait.

        If there is no such reader, to use them raises `DatabaseError`.
        """
        if reader not in self._known:
            find = partial(reader_conninfo, self._settings, self._database_url, reader)
            self._known[reader] = Sessions(find, reader=reader, idle=self._idle)
        return self._known[reader]

    def close(self) -> None:
        self._idle.close()


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
    settings: Mapping[str, str] | None = None,
) -> bytes:
    """Return the statements that open a transaction of a reader.

    The transaction uses *search_path*, or the role's own, and the *snapshot*
    that another transaction exported, or a new one.  Settings are made here and
    not at login, because poolers refuse them there.  Settings that decide how
    values are written (`DateStyle`, for example) stay as psql would find them.

    With *settings*, of a requester, the path is always the role's own: what is
    exported is named with its schema, and nobody chooses where policies that call
    functions look their names up.
    """
    begin = "begin isolation level repeatable read read only; "
    if snapshot:
        begin += f"set transaction snapshot {_quote(snapshot)}; "
    made = SETTINGS | {"timezone": time_zone, "application_name": name}
    if settings:
        made |= settings
    elif search_path is not None:
        made["search_path"] = search_path
    chosen = [
        f"set_config({_quote(key)}, {_quote(value)}, true)"
        for key, value in made.items()
    ]
    return f"{begin}select {SNAPSHOT_AT}, {', '.join(chosen)}".encode()


def name_with_figures(name: str, rows: int, size: int) -> str:
    """Return *name* with the figures that live_exports reads: rows and KiB, in hex."""
    return f"{name} {rows:x} {size // 1024:x}"


def _quote(text: str) -> str:
    return sql.Literal(text).as_string(None)


def reader_conninfo(settings: Settings, database_url: str, reader: str = READER) -> str:
    """Return the conninfo of *reader*: SOURCE_DATABASE_URL, or the queue's primary.

    Raises `DatabaseError` if there is no such reader.
    """
    source = settings.source_database_url
    if source is not None and reader == READER:
        return source
    with psycopg.connect(complete(database_url)) as conn:
        found = libpq.query(conn.pgconn, PASSWORD, [reader], PATIENCE, lambda: None)
    if not found.ntuples:
        raise DatabaseError(
            f"there is no reader {reader}. 'csv-export readers add' makes one."
        )
    password = found.get_value(0, 0)
    return as_reader(
        source or primary(database_url),
        password.decode() if password is not None else None,
        reader,
    )


def as_reader(database_url: str, password: str | None, reader: str = READER) -> str:
    """Return *database_url* with *reader* as the user, and *password*."""
    params: dict[str, Any] = conninfo_to_dict(database_url)
    return make_conninfo(**params | {"user": reader, "password": password})


def _readable(conninfo: str) -> str:
    """Return *conninfo* as `complete` does, for a connection that the pump can read."""
    params = conninfo_to_dict(conninfo)
    asked = params.get("gssencmode") or os.environ.get("PGGSSENCMODE")
    if asked == "require":
        raise DatabaseError(
            "gssencmode=require is not supported: exports cannot be read over a "
            "GSSAPI-encrypted connection. Use sslmode=require instead."
        )
    # Otherwise libpq may choose GSSAPI by itself, and we could not detect it.
    return make_conninfo(complete(conninfo), gssencmode="disable")
