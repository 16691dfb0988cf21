"""Bring a database to what this version expects; fill it with demo data."""

import hashlib
import logging
import time
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import psycopg
from psycopg import errors, sql

from .connections import DatabaseError, complete, primary
from .reader import as_reader

log = logging.getLogger(__name__)

MIGRATE_LOCK = "lock table exports_migrations in share row exclusive mode"
TRIES = 10
PATIENCE = "2s"  # for a lock
PAUSE = 1.0  # seconds, in which others get theirs


def resource(name: str) -> Path:
    """Return the folder *name*, in the installed package or the checkout."""
    packaged = Path(str(files(__package__.rpartition(".")[0]))) / name
    return packaged if packaged.is_dir() else packaged.parent.parent / name


def migrate(database_url: str) -> bool:
    """Bring the schema up to this version; return whether anything changed.

    Any number of processes may do so at once: one works, the others wait and
    find it done.  All or nothing happens.
    """
    with psycopg.connect(primary(database_url), autocommit=True) as conn:
        conn.execute("set client_min_messages = warning")
        conn.execute("set standard_conforming_strings = on")
        conn.execute("set search_path = public")
        for left in reversed(range(TRIES)):
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
                time.sleep(PAUSE)
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
        conn.execute("select set_config('lock_timeout', %s, true)", [PATIENCE])
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
                "Let an administrator of the database run 'csv-export migrate', "
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
        psycopg.connect(complete(as_reader(database_url, password))).close()
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
