"""Install or upgrade the schema, and fill the database with demo data."""

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
from .reader import READER, as_reader

log = logging.getLogger(__name__)

MIGRATE_LOCK = "lock table exports_migrations in share row exclusive mode"
TRIES = 10
PATIENCE = "2s"  # to wait for a lock
PAUSE = 1.0  # seconds between tries, in which other sessions get their locks


def resource(name: str) -> Path:
    """Return the folder *name*, in the installed package or the checkout."""
    packaged = Path(str(files(__package__.rpartition(".")[0]))) / name
    return packaged if packaged.is_dir() else packaged.parent.parent / name


def migrate(database_url: str, *, reader_login: bool = True) -> bool:
    """Bring the schema up to this version; return whether anything changed.

    With *reader_login* also see that csv_reader can log in, by a password if the
    server asks for one.  The other readers always get one if they can.

    Any number of processes may call it at once: one does the work, the others
    wait and find it done.  It happens completely or not at all.
    """
    with psycopg.connect(primary(database_url), autocommit=True) as conn:
        conn.execute("set client_min_messages = warning")
        conn.execute("set standard_conforming_strings = on")
        conn.execute("set search_path = public")
        for left in reversed(range(TRIES)):
            try:
                changed = _install(conn)
                break
            except errors.ReadOnlySqlTransaction as error:
                raise DatabaseError(
                    "the schema has to be changed, but the server is read-only"
                ) from error
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
        if reader_login:
            give_login(conn, database_url)
        for (reader,) in conn.execute(
            "select name from readers where name <> 'csv_reader' and password is null"
            " and to_regrole(quote_ident(name)) is not null"
        ).fetchall():
            try:
                give_login(conn, database_url, reader)
            except DatabaseError as error:
                log.warning("%s", error)
        return changed


def add_reader(database_url: str, reader: str) -> None:
    """Let exports run as the role *reader*, which is made if new, and give it a login."""
    with psycopg.connect(primary(database_url), autocommit=True) as conn:
        conn.execute("set search_path = public")
        conn.execute("select set_config('lock_timeout', %s, false)", [PATIENCE])
        conn.execute("select add_reader(%s)", [reader])
        give_login(conn, database_url, reader)


def seed(database_url: str, rows: int) -> None:
    """Run the seeds: add the users that are missing until there are *rows*."""
    try:
        _seed(database_url, rows)
    except (
        errors.UniqueViolation,
        errors.DuplicateTable,
    ):  # another process seeds, too
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
            if not unicode:  # the encoding may lack accented letters: drop the accents
                plain = unicodedata.normalize("NFKD", text)
                text = plain.encode("ascii", "ignore").decode()
            conn.execute(text.encode())


def _install(conn: psycopg.Connection) -> bool:
    root = resource("sql")
    migrations = sorted((root / "migrations").glob("*.sql"))
    ours = Edition.of_files(root)
    if not _is_to_be_installed(conn, ours):
        return False
    with conn.transaction():
        # While we wait for a lock, all later readers of the table wait behind us.
        conn.execute("select set_config('lock_timeout', %s, true)", [PATIENCE])
        try:
            _run_file(conn, root / "roles.sql")
            conn.execute("set local role csv_service")
            _run_file(conn, root / "ledger.sql")
            conn.execute(MIGRATE_LOCK)
            if not _is_to_be_installed(conn, ours):
                return False
            conn.execute("reset role")
            _run_file(conn, root / "reader.sql")
            conn.execute("set local role csv_service")
            applied = _applied(conn)
            for path in migrations:
                if path.stem not in applied:
                    _run_file(conn, path)
            for path in _replaceable(root):
                _run_file(conn, path)
            conn.execute("reset role")
            conn.execute("select renew_readers()")
            conn.execute("set local role csv_service")
        except errors.InsufficientPrivilege as error:
            raise DatabaseError(
                f"the schema cannot be installed: {error}\n"
                "Have an administrator of the database run 'csv-export migrate', "
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
    """The version of the SQL functions; it grows when a release changes them.

    Processes of the edition *oldest*, or of a newer one, can call them.
    """

    edition: int
    oldest: int
    digest: str

    @classmethod
    def of_files(cls, root: Path) -> "Edition":
        """Return the edition of the files below *root*."""
        lines = (root / "edition").read_text(encoding="ascii").splitlines()
        told = dict(line.split() for line in lines if not line.startswith("#"))
        content = b"".join(
            path.read_bytes() for path in (root / "reader.sql", *_replaceable(root))
        )
        digest = hashlib.sha256(content).hexdigest()
        return cls(int(told["edition"]), int(told["oldest"]), digest)


def _replaceable(root: Path) -> list[Path]:
    """Return the files that csv_service installs at each change, in this order."""
    functions = sorted((root / "functions").glob("*.sql"))
    return [
        *functions,
        root / "views.sql",
        root / "triggers.sql",
        root / "comments.sql",
    ]


def _is_to_be_installed(conn: psycopg.Connection, ours: Edition) -> bool:
    """Return whether *ours* should replace the installed functions.

    Raise `DatabaseError` if this process is too old to call those.
    """
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
                f"the database is newer than this version: its schema has edition"
                f" {installed.edition} and works with {installed.oldest} or newer,"
                f" but this version has {ours.edition}. Start a newer version."
            )
        if ours.edition < installed.edition:
            log.warning(
                "the schema is left unchanged: its edition, %d, is newer than ours, %d",
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


def give_login(
    conn: psycopg.Connection, database_url: str, reader: str = READER
) -> None:
    """Give *reader* a password, if the server asks for passwords.

    It is derived from the password that we log in with, so that several
    installations in one cluster agree on it.  Only the service can read it.
    """
    if not conn.pgconn.used_password:
        return
    if conn.execute(
        "select from reader_login where %(reader)s = 'csv_reader' union all"
        " select from readers where name = %(reader)s and password is not null",
        {"reader": reader},
    ).rowcount:
        return
    password = hashlib.scrypt(
        conn.pgconn.password, salt=reader.encode(), n=2**14, r=8, p=1, dklen=24
    ).hex()
    try:
        psycopg.connect(complete(as_reader(database_url, password, reader))).close()
    except psycopg.OperationalError:
        _set_password(conn, reader, password)
    conn.execute(
        (
            "insert into reader_login (password) values (%s) on conflict do nothing"
            if reader == READER
            else "update readers set password = %s where name = %s"
        ),
        [password] if reader == READER else [password, reader],
    )


def _set_password(conn: psycopg.Connection, reader: str, password: str) -> None:
    if _has_password(conn, reader):
        raise DatabaseError(
            f"{reader} already has a password, which this service did not set. "
            + (
                "Set SOURCE_DATABASE_URL with that password."
                if reader == READER
                else f"Store it: update readers set password = … where name = '{reader}'."
            )
        ) from None
    try:
        conn.execute(
            sql.SQL("alter role {} password {}").format(
                sql.Identifier(reader), sql.Literal(password)
            )
        )
    except errors.InsufficientPrivilege as error:
        raise DatabaseError(
            f"{reader} cannot be given a password: {error}\n"
            "Have an administrator of the database run 'csv-export migrate'"
            + (", or set SOURCE_DATABASE_URL." if reader == READER else ".")
        ) from error


def _has_password(conn: psycopg.Connection, role: str) -> bool:
    try:
        row = conn.execute(
            "select rolpassword is not null from pg_authid where rolname = %s", [role]
        ).fetchone()
    except errors.InsufficientPrivilege:
        return False
    return bool(row and row[0])
