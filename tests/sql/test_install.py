"""Migrations: repeated, concurrent, from psql, and with passwords."""

import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from service.config import Settings
from service.model import Export
from service.postgres import connections, embedded, reader, schema

Conn = psycopg.Connection[Any]

TABLES = "select count(*) from pg_class where relname in ('exports', 'live_exports')"


@pytest.fixture
def empty(server: str) -> Iterator[str]:
    """A database that has never seen the service."""
    name = f"empty_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(f"create database {name} template template0")
        yield make_conninfo(server, dbname=name)
        conn.execute(f"drop database {name} with (force)")


def test_twenty_starts_at_once_install_once(empty: str) -> None:
    with ThreadPoolExecutor(20) as threads:
        changed = list(threads.map(schema.migrate, [empty] * 20))
    assert changed.count(True) == 1
    assert schema.migrate(empty) is False
    with psycopg.connect(empty) as conn:
        assert conn.execute(TABLES).fetchone() == (2,)
        owners = conn.execute(
            "select distinct proowner::regrole::text from pg_proc"
            " where pronamespace = 'public'::regnamespace order by 1"
        ).fetchall()
        assert owners == [("csv_reader",), ("csv_service",)]


def test_an_upgrade_waits_for_readers_and_lets_others_read(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "PATIENCE", "100ms")
    monkeypatch.setattr(schema, "PAUSE", 0.1)
    schema.migrate(empty)
    with psycopg.connect(empty) as reader, psycopg.connect(
        empty, autocommit=True
    ) as conn, ThreadPoolExecutor() as threads:
        conn.execute("update exports_migrations set digest = 'of before'")
        reader.execute("select from live_exports")
        with pytest.raises(connections.DatabaseError, match="Other sessions use it"):
            schema.migrate(empty)
        monkeypatch.setattr(schema, "TRIES", 1000)
        migrating = threads.submit(schema.migrate, empty)
        conn.execute("set statement_timeout = '2s'")
        for _ in range(20):
            conn.execute("select from live_exports")
        assert not migrating.done()
        reader.rollback()
        assert migrating.result()


def test_several_databases_of_one_cluster_install_at_once(server: str) -> None:
    names = [f"beside_{uuid.uuid4().hex}" for _ in range(4)]
    with psycopg.connect(server, autocommit=True) as conn:
        for name in names:
            conn.execute(f"create database {name} template template0")
        try:
            with ThreadPoolExecutor(4) as threads:
                changed = list(
                    threads.map(
                        schema.migrate, [make_conninfo(server, dbname=n) for n in names]
                    )
                )
            assert changed == [True] * 4
        finally:
            for name in names:
                conn.execute(f"drop database {name} with (force)")


def test_psql_installs_the_same_files(empty: str) -> None:
    psql = embedded.find_binaries()[max(embedded.find_binaries())] / "psql"
    script = schema.resource("sql") / "install.sql"
    install: list[str | Path] = [psql, "-Xq", "-d", empty, "-f", script]
    for _ in range(2):
        done = subprocess.run(install, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    schema.migrate(empty)
    with psycopg.connect(empty, autocommit=True) as conn:
        conn.execute("insert into exports (query) values ('select 1')")
    listed = (schema.resource("sql") / "install.sql").read_text()
    for path in schema.resource("sql").rglob("*.sql"):
        assert path.name == "install.sql" or path.name in listed


def test_the_edition_names_the_files() -> None:
    """The digest in sql/edition must change with the files, so the edition is noticed."""
    root = schema.resource("sql")
    digest = schema.Edition.of_files(root).digest
    assert f"digest {digest}\n" in (root / "edition").read_text(), (
        f"the functions in sql/ have changed: write 'digest {digest}' into sql/edition,"
        " and raise the edition if it was released"
    )


@pytest.mark.parametrize("works_beside", [True, False])
def test_older_functions_never_replace_newer_ones(
    database: str, monkeypatch: pytest.MonkeyPatch, works_beside: bool
) -> None:
    """An old process either works with a newer schema, or reports that it cannot."""
    ours = schema.Edition.of_files(schema.resource("sql"))
    edition = ours.edition + 1
    oldest = ours.edition if works_beside else edition
    newer = schema.Edition(edition, oldest, "of later")
    with monkeypatch.context() as later, psycopg.connect(
        database, autocommit=True
    ) as conn:
        later.setattr(schema.Edition, "of_files", lambda root: newer)
        conn.execute("insert into exports_migrations (name) values ('9999-later')")
        assert schema.migrate(database)
        assert not schema.migrate(database)
    if not works_beside:
        with pytest.raises(connections.DatabaseError, match="newer than this version"):
            schema.migrate(database)
        return
    assert not schema.migrate(database)
    with psycopg.connect(database) as conn:
        row = conn.execute(
            "select edition, digest from exports_migrations where name = 'functions'"
        ).fetchone()
        assert row == (edition, "of later")


def test_nobody_can_hold_up_an_upgrade_by_a_lock_of_their_own(empty: str) -> None:
    schema.migrate(empty)
    with psycopg.connect(empty, user="csv_reader") as reader, psycopg.connect(
        empty, autocommit=True
    ) as conn:
        reader.execute("select pg_advisory_lock(6517622)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(schema.MIGRATE_LOCK)
        conn.execute("update exports_migrations set digest = 'of before'")
        assert schema.migrate(empty)


def test_a_service_role_of_its_own_is_enough(database: str) -> None:
    as_service = make_conninfo(database, user="csv_service")
    assert schema.migrate(as_service) is False
    with psycopg.connect(as_service, autocommit=True) as conn:
        conn.execute("insert into exports default values")
        assert conn.execute("select id from claim_exports('w', '1 min')").rowcount == 1


def test_without_rights_it_says_whom_to_ask(server: str, empty: str) -> None:
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(
            "do $$ begin create role nobody_special login;"
            " exception when duplicate_object or unique_violation then null; end $$"
        )
    with pytest.raises(connections.DatabaseError, match="administrator"):
        schema.migrate(make_conninfo(empty, user="nobody_special"))


def test_seeding_twice_adds_nothing_and_more_adds_the_rest(
    conn: Conn, database: str
) -> None:
    digest = "select count(*), md5(string_agg(u::text, '' order by id)) from users as u"
    before = conn.execute(digest).fetchone()
    schema.seed(database, 2_000)
    assert conn.execute(digest).fetchone() == before
    schema.seed(database, 2_500)
    assert conn.execute("select count(*), max(id) from users").fetchone() == (
        2_500,
        2_500,
    )


def test_seeding_at_once_adds_each_user_once(empty: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda rows: schema.seed(empty, rows), [500, 500, 700, 600]))
    with psycopg.connect(empty) as conn:
        assert conn.execute(
            "select count(*), count(distinct email), max(id) from users"
        ).fetchone() == (700, 700, 700)


@pytest.mark.newest
def test_under_passwords_the_reader_logs_in_with_one_of_its_own(
    server: str, scratch: Path
) -> None:
    """Needs a cluster of its own: roles and passwords belong to the whole cluster."""
    cluster = scratch / f"passwords-{uuid.uuid4().hex}"
    with embedded.Postgres(cluster, settings={"fsync": "off"}) as trusted:
        with psycopg.connect(trusted, autocommit=True) as conn:
            conn.execute("alter role postgres password 'it''s \"secret\"'")
            conn.execute("create database other")
        (cluster / "pg_hba.conf").write_text("local all all scram-sha-256\n")
        admin = make_conninfo(trusted, password='it\'s "secret"')
        with psycopg.connect(admin, autocommit=True) as conn:
            conn.execute("select pg_reload_conf()")
        for url in (admin, make_conninfo(admin, dbname="other")):
            schema.migrate(url)
            source = reader.reader_conninfo(Settings(database_url=url), url)
            with psycopg.connect(source) as conn:
                assert conn.execute("select current_user").fetchone() == ("csv_reader",)
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute("select password from reader_login")
        with psycopg.connect(admin, autocommit=True) as conn:
            conn.execute("delete from reader_login")
            conn.execute("alter role csv_reader password 'somebody else''s'")
            conn.execute("alter role csv_service password 'of the service'")
        service = make_conninfo(admin, user="csv_service", password="of the service")
        with pytest.raises(connections.DatabaseError, match="SOURCE_DATABASE_URL"):
            schema.migrate(service)
        assert schema.migrate(service, reader_login=False) is False


def test_every_migration_records_itself() -> None:
    """Else it would run again at the next start."""
    for path in (schema.resource("sql") / "migrations").glob("*.sql"):
        last = f"insert into exports_migrations (name) values ('{path.stem}');"
        assert path.read_text().endswith(f"{last}\n"), path.name


def test_live_exports_has_every_member(database: str) -> None:
    with psycopg.connect(database) as conn:
        columns = conn.execute("select * from live_exports limit 0").description
    assert set(Export.model_fields) <= {column.name for column in columns or ()}


@pytest.mark.newest
def test_whoever_may_create_roles_can_install(server: str, scratch: Path) -> None:
    """No superuser is needed.  The cluster is new, so none of our roles exists yet."""
    cluster = scratch / f"owned-{uuid.uuid4().hex}"
    with embedded.Postgres(cluster, settings={"fsync": "off"}) as admin:
        with psycopg.connect(admin, autocommit=True) as conn:
            conn.execute("create role owner login createrole")
            conn.execute("create database owned owner owner")
        owned = make_conninfo(admin, user="owner", dbname="owned")
        assert schema.migrate(owned) is True
        assert schema.migrate(owned) is False
        schema.add_reader(owned, "sales_reader")
        with psycopg.connect(owned, user="sales_reader") as conn:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute("select from readers")


def test_a_read_only_server_cannot_be_migrated(empty: str) -> None:
    with psycopg.connect(empty, autocommit=True) as conn:
        name = conn.info.dbname
        conn.execute(f"alter database {name} set default_transaction_read_only = on")
    with pytest.raises(connections.DatabaseError, match="read-only"):
        schema.migrate(empty)


@pytest.mark.newest
def test_an_encryption_that_the_pump_cannot_read_is_refused(database: str) -> None:
    with pytest.raises(connections.DatabaseError, match="sslmode=require"):
        reader.Sessions(f"{database} gssencmode=require")
