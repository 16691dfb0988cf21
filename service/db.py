"""Connections, and the schema they find.

`migrate` makes the database what this version expects; the pool serves the
queue as the role in `DATABASE_URL`; source connections run the exported
SELECTs as `csv_reader`.
"""

import hashlib
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from .config import Settings

MIGRATE_LOCK = 0x637376  # "csv"
MIGRATE_TRIES = 10

Pool = AsyncConnectionPool[psycopg.AsyncConnection[DictRow]]


class DatabaseError(Exception):
    """The database cannot be used as it is; the text says what to do."""


def resource(name: str) -> Path:
    """Return the folder *name*, in the installed package or the checkout."""
    packaged = Path(str(files(__package__))) / name
    return packaged if packaged.is_dir() else packaged.parent.parent / name


def open_pool(database_url: str, size: int) -> Pool:
    """Return a pool, not open yet, whose connections commit each statement."""
    return AsyncConnectionPool(
        database_url,
        min_size=1,
        max_size=size,
        open=False,
        name="queue",
        # Named prepared statements do not survive a pooler between us.
        kwargs={"autocommit": True, "row_factory": dict_row, "prepare_threshold": None},
        connection_class=psycopg.AsyncConnection[DictRow],
    )


def open_source(conninfo: str, name: str) -> psycopg.Connection:
    """Connect as the reader, for one export; *name* shows in pg_stat_activity.

    The connection is the export's own: its SELECT may change any setting of
    the session, so it is closed afterwards, never reused.
    """
    settings = {
        "client_connection_check_interval": "2s",
        "lock_timeout": "10s",
        "synchronize_seqscans": "off",
        "timezone": "UTC",
        "datestyle": "ISO",
        "intervalstyle": "postgres",
        "bytea_output": "hex",
        "extra_float_digits": "1",
    }
    return psycopg.connect(
        conninfo,
        autocommit=True,
        application_name=name,
        client_encoding="utf8",
        connect_timeout=10,
        options=" ".join(f"-c {key}={value}" for key, value in settings.items()),
    )


def source_conninfo(settings: Settings, database_url: str) -> str:
    """Return how to log in as the reader; raise `DatabaseError` if that fails."""
    conninfo = settings.source_database_url
    if conninfo is None:
        with psycopg.connect(database_url) as conn:
            row = conn.execute("select password from reader_login").fetchone()
        conninfo = _as_reader(database_url, row[0] if row else None)
    try:
        psycopg.connect(conninfo, connect_timeout=10).close()
    except psycopg.OperationalError as error:
        raise DatabaseError(
            f"csv_reader, who runs the exported SELECTs, cannot log in: {error}\n"
            "Let pg_hba.conf admit it, or set SOURCE_DATABASE_URL."
        ) from error
    return conninfo


def migrate(database_url: str) -> bool:
    """Bring the schema up to this version; return whether anything changed.

    Any number of processes may do so at once: one works, the others wait and
    find it done.  All or nothing happens.
    """
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("set client_min_messages = warning")
        for left in reversed(range(MIGRATE_TRIES)):
            try:
                changed = _install(conn)
                break
            except (errors.InternalError, errors.UniqueViolation):
                # "tuple concurrently updated": roles belong to the cluster, and
                # another of its databases is being migrated.
                if not left:
                    raise
        _give_reader_a_login(conn, database_url)
        return changed


def seed(database_url: str, rows: int) -> None:
    """Run the seeds: *rows* users, of which only the missing ones are added."""
    with psycopg.connect(database_url) as conn:
        conn.execute("set client_min_messages = warning")
        conn.execute("select set_config('seeds.rows', %s, false)", [str(rows)])
        # Two seeds at once would both find the same users missing.
        conn.execute("select pg_advisory_xact_lock(%s)", [MIGRATE_LOCK])
        for path in sorted(resource("seeds").glob("*.sql")):
            _run_file(conn, path)


def _install(conn: psycopg.Connection) -> bool:
    root = resource("sql")
    migrations = sorted((root / "migrations").glob("*.sql"))
    replaceable = [root / "reader.sql", *sorted((root / "functions").glob("*.sql"))]
    replaceable += [root / "views.sql", root / "triggers.sql"]
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in replaceable)).hexdigest()
    applied = _applied(conn)
    if newer := applied.keys() - {path.stem for path in migrations} - {"functions"}:
        raise DatabaseError(
            f"the database is newer than this version: it has {', '.join(sorted(newer))}"
        )
    if applied.get("functions") == digest:
        return False
    with conn.transaction():
        conn.execute("select pg_advisory_xact_lock(%s)", [MIGRATE_LOCK])
        applied = _applied(conn)
        if applied.get("functions") == digest:
            return False
        try:
            _run_file(conn, root / "roles.sql")
            _run_file(conn, root / "reader.sql")
            conn.execute("set local role csv_service")
            _run_file(conn, root / "ledger.sql")
            for path in migrations:
                if path.stem not in applied:
                    _run_file(conn, path)
            for path in replaceable[1:]:
                _run_file(conn, path)
        except errors.InsufficientPrivilege as error:
            raise DatabaseError(
                f"the schema cannot be installed: {error}\n"
                "Let an administrator of the database run 'python -m service migrate', "
                "or psql -f sql/install.sql."
            ) from error
        conn.execute(
            "insert into exports_migrations (name, digest) values ('functions', %s)"
            " on conflict (name) do update set digest = excluded.digest, applied_at = now()",
            [digest],
        )
    return True


def _applied(conn: psycopg.Connection) -> dict[str, str | None]:
    with suppress(errors.UndefinedTable):
        with conn.transaction():
            found = conn.execute(
                "select name, digest from exports_migrations"
            ).fetchall()
            return dict(found)
    return {}


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
        psycopg.connect(_as_reader(database_url, password), connect_timeout=10).close()
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
