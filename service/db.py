"""Connections, and the schema they find.

`migrate` makes the database what this version expects; the pool serves the
queue as the role in `DATABASE_URL`; source connections run the exported
SELECTs as `csv_reader`.

No connection is waited for without a bound: the kernel gives up hosts that
vanished, and `bounded` severs connections that merely went silent.
"""

import asyncio
import hashlib
import json
import logging
import os
import select
import socket
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq.abc import PGresult
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import set_json_dumps
from psycopg_pool import AsyncConnectionPool

from . import libpq
from .config import Settings
from .libpq import Look

log = logging.getLogger(__name__)

MIGRATE_LOCK = "lock table exports_migrations in share row exclusive mode"
MIGRATE_TRIES = 10
MIGRATE_PATIENCE = "2s"  # for a lock
MIGRATE_PAUSE = 1.0  # seconds, in which others get theirs
SOURCE_USES = 1000  # of one connection, before a new one is made
SOURCE_PATIENCE = 10.0  # seconds for the server to begin or end a transaction
QUEUE_PATIENCE = 2.0  # seconds until a connection of the pool
DEFAULTS = {
    "client_encoding": "utf8",
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
SOURCE_SETTINGS = {
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
# Of the queue's connections: what psycopg reads, and our functions where no path leads.
QUEUE_SETTINGS = {"DateStyle": "ISO", "IntervalStyle": "postgres"}

Pool = AsyncConnectionPool[psycopg.AsyncConnection[DictRow]]
AnyConnection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]


class DatabaseError(Exception):
    """The database cannot be used as it is; the text says what to do."""


def resource(name: str) -> Path:
    """Return the folder *name*, in the installed package or the checkout."""
    packaged = Path(str(files(__package__))) / name
    return packaged if packaged.is_dir() else packaged.parent.parent / name


def open_pool(database_url: str, size: int) -> Pool:
    """Return a pool, not open yet, whose connections commit each statement.

    While the server is away it refuses within `QUEUE_PATIENCE`; once the server
    is back, so is the pool.
    """

    async def check(conn: psycopg.AsyncConnection[Any]) -> None:
        # An idle connection has nothing to read, unless the server ended it;
        # so this costs no round trip.
        poller = select.poll()
        poller.register(conn.fileno(), select.POLLIN)
        if poller.poll(0):
            try:
                with bounded(conn, QUEUE_PATIENCE):
                    await conn.execute("")
            except psycopg.OperationalError:
                await pool.drain()  # the others are most likely dead as well
                raise

    async def configure(conn: psycopg.AsyncConnection[Any]) -> None:
        set_json_dumps(_dump_json, conn)
        # Only where the database, or the role, says otherwise: a transaction
        # pooler hands what is set here to other sessions as well.
        for name, value in QUEUE_SETTINGS.items():
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
        timeout=QUEUE_PATIENCE,
        # Then it gives up, and tries again at once when somebody asks.
        reconnect_timeout=QUEUE_PATIENCE,
        check=check,
        configure=configure,
        # Named prepared statements do not survive a pooler between us.
        kwargs={"autocommit": True, "row_factory": dict_row, "prepare_threshold": None},
        connection_class=psycopg.AsyncConnection[DictRow],
    )
    return pool


@dataclass
class Source:
    """A connection of the reader, in a transaction whose snapshot is of *at*.

    On a replica that is the last commit it knows of: it has all until then.
    """

    conn: psycopg.Connection[Any]
    at: datetime
    is_replica: bool
    uses: int = 1


class Sources:
    """Connections as csv_reader, each lent to one SELECT at a time; from any thread.

    `search_path` is the reader's own, as of the connection made last.

    A SELECT may change its session.  So nothing of it is left to the next one:
    the transaction is rolled back, and DISCARD ALL makes the session new.  At
    most *keep* connections wait to be used again.
    """

    def __init__(self, conninfo: str, keep: int = 0) -> None:
        params = conninfo_to_dict(conninfo)
        asked = params.get("gssencmode") or os.environ.get("PGGSSENCMODE")
        if asked == "require":
            raise DatabaseError(
                "gssencmode=require: the pump cannot read what GSSAPI encrypts. "
                "Encrypt by sslmode=require instead."
            )
        # Else libpq would choose it by itself, and nothing tells that it did.
        self.conninfo = make_conninfo(complete(conninfo), gssencmode="disable")
        self._keep = keep
        self._idle: list[Source] = []
        self._lock = threading.Lock()
        self.search_path: str | None = None

    def begin(
        self,
        name: str,
        time_zone: str = "UTC",
        search_path: str | None = None,
        look: Look = lambda: None,
    ) -> Source:
        """Lend a connection; *name* shows in pg_stat_activity.

        *look* is called while it waits, and may raise to give up.  A server that
        accepts and says nothing is an `OperationalError` after `SOURCE_PATIENCE`.
        """
        begin = begin_source(name, time_zone, search_path)
        with self._lock:
            source = self._idle.pop() if self._idle else None
        if source is not None:
            try:
                source.at, source.is_replica = _begin(source.conn, begin, look)
                source.uses += 1
                return source
            except psycopg.OperationalError:
                source.conn.close()  # the server ended it meanwhile
            except BaseException:
                source.conn.close()
                raise
        # DISCARD ALL would forget what psycopg believes to be prepared.
        conn = psycopg.connect(self.conninfo, autocommit=True, prepare_threshold=None)
        try:
            self._learn_search_path(conn, look)
            return Source(conn, *_begin(conn, begin, look))
        except BaseException:
            conn.close()
            raise

    def connect(self) -> None:
        """Make sure that the reader can log in, and learn its `search_path`."""
        try:
            with psycopg.connect(self.conninfo) as conn:
                self._learn_search_path(conn)
        except psycopg.OperationalError as error:
            raise DatabaseError(
                f"csv_reader, who runs the exported SELECTs, cannot log in: {error}\n"
                "Let pg_hba.conf admit it, or set SOURCE_DATABASE_URL."
            ) from error

    def _learn_search_path(
        self, conn: psycopg.Connection[Any], look: Look = lambda: None
    ) -> None:
        # "$user" is this role, whoever looks names up in the path later.
        result = _run(
            conn,
            b"select replace(current_setting('search_path'), '\"$user\"',"
            b" quote_ident(current_user))",
            look,
        )
        self.search_path = (result.get_value(0, 0) or b"").decode()

    def end(self, source: Source, *, reuse: bool) -> None:
        """Take the connection back; *reuse* it if nothing went wrong."""
        if reuse and source.uses < SOURCE_USES:
            with suppress(psycopg.Error):
                anew = (b"rollback", b"discard all")
                libpq.run_each(source.conn.pgconn, anew, SOURCE_PATIENCE, lambda: None)
                with self._lock:
                    if len(self._idle) < self._keep:
                        self._idle.append(source)
                        return
        source.conn.close()

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
    """Run *statements* by libpq itself; return the result of the last one."""
    return libpq.run(conn.pgconn, statements, SOURCE_PATIENCE, look)


def begin_source(
    name: str,
    time_zone: str,
    search_path: str | None = None,
    snapshot: str | None = None,
) -> bytes:
    """Return the statements that open a transaction of the reader.

    It looks names up in *search_path*, or its own, and sees the *snapshot* that
    another one exported, or a new one.  All is set here, not at login: poolers
    refuse that.  Whatever else decides how values are written is left as psql
    would have it.
    """
    begin = "begin isolation level repeatable read read only; "
    if snapshot:
        begin += f"set transaction snapshot {_quote(snapshot)}; "
    settings = SOURCE_SETTINGS | {"timezone": time_zone, "application_name": name}
    if search_path is not None:
        settings["search_path"] = search_path
    chosen = [
        f"set_config({_quote(key)}, {_quote(value)}, true)"
        for key, value in settings.items()
    ]
    return f"{begin}select {SNAPSHOT_AT}, {', '.join(chosen)}".encode()


def session_name(name: str, rows: int, size: int) -> str:
    """Return *name* with figures that live_exports reads: hexadecimal rows and KiB."""
    return f"{name} {rows:x} {size // 1024:x}"


def _quote(text: str) -> str:
    return sql.Literal(text).as_string(None)


def complete(conninfo: str) -> str:
    """Return *conninfo* with `DEFAULTS` for what it leaves open."""
    params: dict[str, Any] = {**DEFAULTS, **conninfo_to_dict(conninfo)}
    return make_conninfo(**params)


def primary(conninfo: str) -> str:
    """Return `complete`, which of several hosts takes the one that can be written to."""
    completed = complete(conninfo)
    params: dict[str, Any] = conninfo_to_dict(completed)
    if "," in f"{params.get('host', '')}{params.get('hostaddr', '')}":
        params.setdefault("target_session_attrs", "read-write")
    return make_conninfo(**params)


def _dump_json(value: object) -> str:
    """Return JSON without escapes, which a database not in UTF-8 may not take."""
    return json.dumps(value, ensure_ascii=False)


def sever(conn: AnyConnection) -> None:
    """Make whoever waits for *conn* fail now, though the network is silent.

    From any thread.  Neither closing nor cancelling would do: one takes the
    descriptor from under the waiter, the other asks the server.
    """
    with suppress(OSError, psycopg.OperationalError):
        with socket.socket(fileno=os.dup(conn.fileno())) as ours:
            ours.shutdown(socket.SHUT_RDWR)


@contextmanager
def bounded_in_thread(conn: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """As `bounded`, for a thread that has no event loop."""
    timer = threading.Timer(seconds, sever, [conn])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def bounded(conn: AnyConnection, seconds: float) -> Iterator[None]:
    """Sever *conn* if the block takes longer than that."""
    timer = asyncio.get_running_loop().call_later(seconds, sever, conn)
    try:
        yield
    finally:
        timer.cancel()


def source_conninfo(settings: Settings, database_url: str) -> str:
    """Return how to log in as the reader; by default where the queue is, not a replica."""
    conninfo = settings.source_database_url
    if conninfo is None:
        with psycopg.connect(complete(database_url)) as conn:
            row = conn.execute("select password from public.reader_login").fetchone()
        conninfo = _as_reader(primary(database_url), row[0] if row else None)
    return conninfo


def migrate(database_url: str) -> bool:
    """Bring the schema up to this version; return whether anything changed.

    Any number of processes may do so at once: one works, the others wait and
    find it done.  All or nothing happens.
    """
    with psycopg.connect(primary(database_url), autocommit=True) as conn:
        conn.execute("set client_min_messages = warning")
        conn.execute("set standard_conforming_strings = on")
        conn.execute("set search_path = public")
        for left in reversed(range(MIGRATE_TRIES)):
            try:
                changed = _install(conn)
                break
            except (errors.InternalError, errors.UniqueViolation):
                # "tuple concurrently updated": roles belong to the cluster, and
                # another of its databases is being migrated.
                if not left:
                    raise
            except errors.LockNotAvailable as error:
                if not left:
                    raise DatabaseError(
                        f"the schema cannot be changed: {error}\n"
                        "Other sessions use it: see pg_locks and pg_stat_activity."
                    ) from error
                log.warning("the schema is in use; trying again: %s", error)
                time.sleep(MIGRATE_PAUSE)
        _give_reader_a_login(conn, database_url)
        return changed


def seed(database_url: str, rows: int) -> None:
    """Run the seeds: *rows* users, of which only the missing ones are added."""
    try:
        _seed(database_url, rows)
    except (errors.UniqueViolation, errors.DuplicateTable):  # another was faster
        _seed(database_url, rows)


def _seed(database_url: str, rows: int) -> None:
    with psycopg.connect(primary(database_url)) as conn:
        conn.execute("set client_min_messages = warning")
        conn.execute("set standard_conforming_strings = on")
        conn.execute("set search_path = public")
        conn.execute("select set_config('seeds.rows', %s, false)", [str(rows)])
        unicode = conn.info.parameter_status("server_encoding") in ("UTF8", "SQL_ASCII")
        for path in sorted(resource("seeds").glob("*.sql")):
            text = path.read_text(encoding="utf-8")
            if not unicode:  # names without their accents, rather than none
                plain = unicodedata.normalize("NFKD", text)
                text = plain.encode("ascii", "ignore").decode()
            conn.execute(text.encode())


def _install(conn: psycopg.Connection) -> bool:
    root = resource("sql")
    migrations = sorted((root / "migrations").glob("*.sql"))
    ours = Edition.of_files(root)
    if not _is_ours_newer(conn, ours):
        return False
    with conn.transaction():
        # Whoever reads would queue up behind us.
        conn.execute("select set_config('lock_timeout', %s, true)", [MIGRATE_PATIENCE])
        try:
            _run_file(conn, root / "roles.sql")
            conn.execute("set local role csv_service")
            _run_file(conn, root / "ledger.sql")
            conn.execute(MIGRATE_LOCK)
            if not _is_ours_newer(conn, ours):
                return False
            conn.execute("reset role")
            _run_file(conn, root / "reader.sql")
            conn.execute("set local role csv_service")
            applied = _applied(conn)
            for path in migrations:
                if path.stem not in applied:
                    _run_file(conn, path)
            for path in _replaceable(root)[1:]:
                _run_file(conn, path)
        except errors.InsufficientPrivilege as error:
            raise DatabaseError(
                f"the schema cannot be installed: {error}\n"
                "Let an administrator of the database run 'python -m service migrate', "
                "or psql -f sql/install.sql."
            ) from error
        conn.execute(
            "insert into exports_migrations (name, digest, edition, oldest)"
            " values ('functions', %s, %s, %s) on conflict (name) do update set"
            " digest = excluded.digest, edition = excluded.edition,"
            " oldest = excluded.oldest, applied_at = now()",
            [ours.digest, ours.edition, ours.oldest],
        )
    return True


@dataclass(frozen=True)
class Edition:
    """Which functions these are: a number that grows with each release of others.

    Processes from edition *oldest* on can call them.
    """

    edition: int
    oldest: int
    digest: str

    @classmethod
    def of_files(cls, root: Path) -> "Edition":
        """Return the edition of the files below *root*."""
        lines = (root / "edition").read_text(encoding="ascii").splitlines()
        told = dict(line.split() for line in lines if not line.startswith("#"))
        content = b"".join(path.read_bytes() for path in _replaceable(root))
        digest = hashlib.sha256(content).hexdigest()
        return cls(int(told["edition"]), int(told["oldest"]), digest)


def _replaceable(root: Path) -> list[Path]:
    functions = sorted((root / "functions").glob("*.sql"))
    return [
        root / "reader.sql",
        *functions,
        root / "views.sql",
        root / "triggers.sql",
    ]


def _is_ours_newer(conn: psycopg.Connection, ours: Edition) -> bool:
    """Should *ours* replace what is installed?  Raise if we cannot work with that."""
    with suppress(errors.UndefinedTable, errors.UndefinedColumn), conn.transaction():
        row = conn.execute(
            "select edition, oldest, digest from exports_migrations"
            " where name = 'functions' and edition is not null"
        ).fetchone()
        if row is None:
            return True
        installed = Edition(*row)
        if ours.edition < installed.oldest:
            raise DatabaseError(
                f"the database is newer than this version: it is of edition"
                f" {installed.edition} and needs {installed.oldest} or newer; this is"
                f" {ours.edition}. Start the new version."
            )
        if ours.edition < installed.edition:
            log.warning(
                "the database is of a newer edition, %d, and stays as it is; this is %d",
                installed.edition,
                ours.edition,
            )
            return False
        return ours != installed
    return True


def _applied(conn: psycopg.Connection) -> set[str]:
    return {name for (name,) in conn.execute("select name from exports_migrations")}


def _run_file(conn: psycopg.Connection, path: Path) -> None:
    conn.execute(path.read_bytes())


def _as_reader(database_url: str, password: str | None) -> str:
    params: dict[str, Any] = conninfo_to_dict(database_url)
    return make_conninfo(**params | {"user": "csv_reader", "password": password})


def _give_reader_a_login(conn: psycopg.Connection, database_url: str) -> None:
    """Where the server asks for passwords, make one for csv_reader.

    It follows from the one we log in with, so that several installations in a
    cluster agree on it, and is kept where only the service can read it.
    """
    if not conn.pgconn.used_password:
        return
    if conn.execute("select from reader_login").rowcount:
        return
    password = hashlib.scrypt(
        conn.pgconn.password, salt=b"csv_reader", n=2**14, r=8, p=1, dklen=24
    ).hex()
    try:
        psycopg.connect(complete(_as_reader(database_url, password))).close()
    except psycopg.OperationalError:
        if _has_password(conn, "csv_reader"):
            raise DatabaseError(
                "csv_reader has a password already, given by somebody else. "
                "Set SOURCE_DATABASE_URL to log in with it."
            ) from None
        conn.execute(
            sql.SQL("alter role csv_reader password {}").format(sql.Literal(password))
        )
    conn.execute(
        "insert into reader_login (password) values (%s) on conflict do nothing",
        [password],
    )


def _has_password(conn: psycopg.Connection, role: str) -> bool:
    try:
        row = conn.execute(
            "select rolpassword is not null from pg_authid where rolname = %s", [role]
        ).fetchone()
    except errors.InsufficientPrivilege:
        return False
    return bool(row and row[0])
