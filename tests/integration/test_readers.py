"""Readers and tenants: nobody exports what their reader, or their settings, keep back."""

import json
import re
import shlex
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

from service import attempt
from service.config import Settings
from service.copying import lanes
from service.postgres import embedded, schema
from service.postgres.connections import DatabaseError
from service.postgres.reader import Readers

from .. import servers
from ..conftest import DAMMED, Service, Start, dam, eventually
from .test_client import Shell
from .test_keys import Made, asking, make_key

pytestmark = pytest.mark.newest

Conn = psycopg.Connection[Any]

SECRET = "SECRET-OF-BOB"


def requester(conn: Conn, name: str, **changes: object) -> Made:
    """Make a requester, and return a key of theirs."""
    conn.execute("select set_requester(%s, %s)", [name, Jsonb(changes)])
    return make_key(conn, name)


async def file_of(service: Service, export: dict[str, Any]) -> str:
    ended = await service.ended(export["jobId"])
    assert ended["status"] == "completed", ended["error"]
    async with service.http.get(f"/exports/{export['jobId']}/download") as answer:
        return await answer.text()


async def refusal(service: Service, path: str = "/exports", **wanted: Any) -> str:
    async with service.http.post(path, json=wanted) as answer:
        problem = await answer.json()
        assert answer.status == 422, problem
        return str(problem["detail"])


TABLES = ("leads", "deals")


@pytest.fixture
def tables(conn: Conn, roles: list[str]) -> dict[str, Made]:
    """Two tables, each with a reader of its own; the keys of ann and bob."""
    keys = {}
    for name, table in zip(("ann", "bob"), TABLES):
        conn.execute(f"create table {table} as select '{table}' as kind")
        roles.append(f"{table}_reader")
        conn.execute(f"select add_reader('{table}_reader')")
        conn.execute(f"grant select on {table} to {table}_reader")
        keys[name] = requester(conn, name, reader=f"{table}_reader")
    return keys


async def each_reads_their_own(service: Service, keys: dict[str, Made]) -> None:
    for name, mine, other in (("ann", "leads", "deals"), ("bob", "deals", "leads")):
        async with asking(service, keys[name]) as asker:
            async with asker.http.get("/sources") as answer:
                shown = (await answer.json())["sources"]
            assert [source["source"] for source in shown] == [mine]
            export = await asker.export(source=mine)
            assert export["reader"] == f"{mine}_reader"
            assert await file_of(asker, export) == f"kind\n{mine}\n"
            who = await asker.export(query="select session_user, current_user")
            assert await file_of(asker, who) == (
                f"session_user,current_user\n{mine}_reader,{mine}_reader\n"
            )
            async with asker.http.post(
                "/exports?dryRun=true", json={"query": f"select * from {mine}"}
            ) as answer:
                assert (await answer.json())["rows"] == [{"kind": mine}]
            for path in ("/exports", "/exports?dryRun=true"):
                denied = f"permission denied for table {other}"
                assert await refusal(asker, path, source=other) == denied
                query = f"select * from {other}"
                assert await refusal(asker, path, query=query) == denied


async def test_each_reader_reads_what_is_granted_to_it(
    tables: dict[str, Made], start: Start
) -> None:
    service = await start(auth="keys")
    await each_reads_their_own(service, tables)


async def test_a_grant_that_is_revoked_fails_the_run(
    tables: dict[str, Made], conn: Conn, start: Start
) -> None:
    service = await start(auth="keys", work=False)
    async with asking(service, tables["ann"]) as ann:
        export = await ann.export(source="leads")
        conn.execute("revoke select on leads from leads_reader")
        conn.execute("grant select on leads to csv_reader, deals_reader")
        await start(serve=False)
        ended = await ann.ended(export["jobId"])
    assert ended["status"] == "failed"
    assert ended["error"]["message"] == "permission denied for table leads"


async def test_a_reader_that_is_gone_fails_the_run(
    tables: dict[str, Made], conn: Conn, start: Start
) -> None:
    service = await start(auth="keys", work=False)
    async with asking(service, tables["ann"]) as ann:
        export = await ann.export(source="leads")
        conn.execute("update requesters set reader = null")
        conn.execute("delete from readers where name = 'leads_reader'")
        await start(serve=False)
        ended = await ann.ended(export["jobId"])
    assert ended["status"] == "failed" and ended["attempt"] == 1
    assert "there is no reader leads_reader" in ended["error"]["message"]


async def test_readers_share_no_session_and_cannot_end_each_others(
    tables: dict[str, Made], conn: Conn, start: Start
) -> None:
    conn.execute("grant select on users to leads_reader")
    service = await start(auth="keys", worker_slots=2)
    async with AsyncExitStack() as stack:
        ann = await stack.enter_async_context(asking(service, tables["ann"]))
        bob = await stack.enter_async_context(asking(service, tables["bob"]))
        seen: dict[str, set[str]] = {"ann": set(), "bob": set()}
        for _ in range(3):
            for name, asker in (("ann", ann), ("bob", bob)):
                export = await asker.export(query="select pg_backend_pid() as pid")
                seen[name].add(await file_of(asker, export))
        assert not seen["ann"] & seen["bob"]
        with dam(service.database):
            held = await ann.export(query=DAMMED)
            backend = (
                "select pid from pg_stat_activity where usename = 'leads_reader'"
                " and wait_event_type = 'Lock'"
            )

            async def waits() -> bool:
                return conn.execute(backend).rowcount == 1

            await eventually(waits)
            row = conn.execute(backend).fetchone()
            assert row
            spied = await bob.export(
                query="select count(*) from pg_stat_activity where query like '%1500%'"
                " and usename <> current_user"
            )
            assert await file_of(bob, spied) == "count\n0\n"
            ending = await bob.export(query=f"select pg_terminate_backend({row[0]})")
            ended = await bob.ended(ending["jobId"])
            assert ended["status"] == "failed" and ended["error"]["sqlstate"] == "42501"
            # Those who run it do see how far it is.
            async with ann.http.get(f"/exports/{held['jobId']}") as answer:
                assert (await answer.json())["status"] == "processing"
        assert (await ann.ended(held["jobId"]))["attempt"] == 1


def test_idle_connections_are_bounded_for_all_readers_together(
    tables: dict[str, Made], conn: Conn, database: str
) -> None:
    readers = Readers(Settings(database_url=database, worker_slots=2), database)
    own: dict[str, str] = {}
    for reader in ("csv_reader", "leads_reader", "deals_reader", "leads_reader"):
        for settings in (own, {"app.tenant": "1"}, own):
            session = readers.of(reader).begin("test", settings=settings)
            row = session.conn.execute(
                "select session_user::text, current_setting('app.tenant', true)"
            ).fetchone()
            # Nothing is left of the settings of others.
            assert row == (reader, settings.get("app.tenant"))
            readers.of(reader).end(session, reuse=True)

    def idle() -> int:
        return conn.execute(
            "select from pg_stat_activity where usename like '%\\_reader'"
            " and datname = current_database()"
        ).rowcount

    while idle() > 2:  # the server needs a moment to notice closed connections
        pass
    again = readers.of("leads_reader").begin("test")
    assert again.uses == 3
    readers.of("leads_reader").end(again, reuse=False)
    readers.close()


@pytest.fixture
def passwords(scratch: Path) -> Iterator[str]:
    """The conninfo of a database on a server that asks everybody for a password."""
    cluster = scratch / f"scram-{uuid.uuid4().hex}"
    with embedded.Postgres(cluster, settings={"fsync": "off"}) as trusted:
        with psycopg.connect(trusted, autocommit=True) as conn:
            conn.execute("alter role postgres password 'it''s \"secret\"'")
        (cluster / "pg_hba.conf").write_text("local all all scram-sha-256\n")
        admin = make_conninfo(trusted, password='it\'s "secret"')
        with psycopg.connect(admin, autocommit=True) as conn:
            conn.execute("select pg_reload_conf()")
        schema.migrate(admin)
        yield admin


async def test_readers_have_passwords_of_their_own(
    passwords: str, start: Start
) -> None:
    keys = {}
    with psycopg.connect(passwords, autocommit=True) as conn:
        for name, table in zip(("ann", "bob"), TABLES):
            conn.execute(f"create table {table} as select '{table}' as kind")
            if table == "leads":
                schema.add_reader(passwords, "leads_reader")
            else:  # made by psql, and given a password by migrate
                conn.execute("select add_reader('deals_reader')")
                schema.migrate(passwords)
            conn.execute(f"grant select on {table} to {table}_reader")
            keys[name] = requester(conn, name, reader=f"{table}_reader")
        kept: list[tuple[str, str]] = conn.execute(
            "select name, password from readers where name <> 'csv_reader'"
            " union all select 'csv_reader', password from reader_login"
        ).fetchall()
        assert len({password for _, password in kept if password}) == 3
    settings: dict[str, Any] = {"database_url": passwords, "auth": "keys"}
    service = await start(**settings)
    await each_reads_their_own(service, keys)
    # Of a source elsewhere the user and the password are replaced.
    elsewhere = make_conninfo(
        passwords, user="csv_reader", password=dict(kept)["csv_reader"]
    )
    service = await start(**settings, source_database_url=elsewhere)
    await each_reads_their_own(service, keys)
    readers = Readers(Settings(database_url=passwords), passwords)
    leads = readers.of("leads_reader")
    leads.connect()
    with psycopg.connect(passwords, autocommit=True) as conn:
        conn.execute("alter role leads_reader password 'new'")
        with pytest.raises(psycopg.OperationalError):
            leads.begin("test")
        # It is looked up again after a login has failed.
        conn.execute("update readers set password = 'new' where name = 'leads_reader'")
        leads.end(leads.begin("test"), reuse=False)
        # One that somebody else has set is never replaced.
        conn.execute("create role given login password 'by hand'")
        with pytest.raises(DatabaseError, match="given already has a password"):
            schema.add_reader(passwords, "given")
    readers.close()


async def test_readers_log_in_with_the_certificate_of_the_service(
    scratch: Path, tmp_path: Path, start: Start
) -> None:
    keys = {}
    with servers.encrypted(scratch / f"certificates-{uuid.uuid4().hex}") as (
        server,
        conninfo,
    ):
        shown = servers.certificate(server, tmp_path, "exports")
        asked = make_conninfo(conninfo, **shown)
        (server.data_dir / "pg_hba.conf").write_text(
            "local all all trust\nhostssl all all all cert map=exports\n"
        )
        (server.data_dir / "pg_ident.conf").write_text(
            "exports exports postgres\nexports exports csv_reader\n"
            "exports exports leads_reader\nexports exports deals_reader\n"
        )
        local = make_conninfo(conninfo, host=str(server.data_dir), sslmode="disable")
        with psycopg.connect(local, autocommit=True) as conn:
            conn.execute("select pg_reload_conf()")
        with pytest.raises(psycopg.OperationalError, match="certificate"):
            psycopg.connect(conninfo)
        schema.migrate(asked)
        with psycopg.connect(asked, autocommit=True) as conn:
            for name, table in zip(("ann", "bob"), TABLES):
                conn.execute(f"create table {table} as select '{table}' as kind")
                schema.add_reader(asked, f"{table}_reader")
                conn.execute(f"grant select on {table} to {table}_reader")
                keys[name] = requester(conn, name, reader=f"{table}_reader")
        await each_reads_their_own(await start(database_url=asked, auth="keys"), keys)


TENANTS = """
create schema app;
create schema evil;
create function app.number() returns text language sql stable
as $$ select current_setting('app.tenant') $$;
create function evil.number() returns text language sql stable as $$ select '2' $$;
create function app.tenant() returns int language plpgsql stable
as $$ begin return number()::int; end $$;
create table orders (id int primary key, tenant int, note text);
insert into orders select n, 1 + n % 2, 'note ' || n from generate_series(1, 100) as n;
update orders set note = 'SECRET-OF-BOB' where tenant = 2;
create policy own on orders using (tenant = current_setting('app.tenant')::int);
alter table orders enable row level security;
create table app.bills as select * from orders;
create policy own on app.bills using (tenant = app.tenant());
alter table app.bills enable row level security;
create table parts (like orders) partition by list (tenant);
create table parts_1 partition of parts for values in (1);
create table parts_2 partition of parts for values in (2);
insert into parts select * from orders;
create policy own on parts using (tenant = current_setting('app.tenant')::int);
alter table parts enable row level security;
create view shown with (security_invoker) as select * from orders;
create function all_orders() returns setof orders language sql security definer
as $$ select * from orders $$;
create view evil.orders with (security_invoker) as select * from public.orders;
analyze orders;
grant usage on schema app, evil to csv_reader;
grant select on orders, app.bills, parts, shown, evil.orders to csv_reader;
alter role csv_reader in database {database} set search_path = app, public;
"""

SET = "set_config('app.tenant', '2', true)"
OTHER = {"column": "tenant", "op": "eq", "value": 2}


def where(column: str, op: str, value: object) -> dict[str, Any]:
    return {
        "source": "orders",
        "filters": [{"column": column, "op": op, "value": value}],
    }


# What ann, of tenant 1, tries; and whether it is accepted, to export rows of hers.
TRIES: dict[str, tuple[dict[str, Any], bool]] = {
    "the table": ({"source": "orders"}, True),
    "the rows of others": ({"source": "orders", "filters": [OTHER]}, True),
    "by their text": (where("note", "like", "%SECRET%"), True),
    "a value that ends the literal": (where("note", "eq", "' or true --"), True),
    "a value with a backslash": (where("note", "ne", "\\' or true --"), True),
    "a value that sets": (where("note", "ne", f"'||{SET}||'"), True),
    "a list that ends": (where("note", "in", ["x", "') or (true"]), True),
    "a range that ends": (where("note", "between", ["a", "z') or (tenant=2"]), True),
    "a number that is none": (where("id", "eq", "1 or true"), False),
    "a number that sets": (where("id", "gt", f"{SET}::int"), False),
    "an operator": (where("id", "= 1 or tenant =", 2), False),
    "a column that sets": (where(SET, "eq", 2), False),
    "columns that set": ({"source": "orders", "columns": [SET]}, False),
    "columns that end": (
        {"source": "orders", "columns": ['id" from (select 1) as t; --']}, False,
    ),
    "system columns": ({"source": "orders", "columns": ["tableoid"]}, False),
    "an order that sets": ({"source": "orders", "orderBy": [f"-{SET}"]}, False),
    "an order that counts": ({"source": "orders", "orderBy": ["-tenant"]}, True),
    "a query": ({"query": "select * from orders"}, False),
    "a query that sets": ({"query": f"select {SET}, * from orders"}, False),
    "a blank query": ({"query": " "}, False),
    "an activity": ({"source": "pg_stat_activity"}, False),
    "statistics": ({"source": "pg_catalog.pg_stats"}, False),
    "a schema of the standard": ({"source": "information_schema.columns"}, False),
    "a catalog on the path": (
        {"source": "pg_stats", "searchPath": "pg_catalog, public"}, False,
    ),
    "the queue": ({"source": "exports"}, False),
    "requesters": ({"source": "requesters"}, False),
    "a function": ({"source": "all_orders"}, False),
    "a call": ({"source": "all_orders()"}, False),
    "two sources": ({"source": f"orders, (select {SET}) as x"}, False),
    "a sample": ({"source": "orders tablesample system (100)"}, False),
    "a part": ({"source": "parts_2"}, False),
    "the whole": ({"source": "parts"}, True),
    "a view": ({"source": "shown"}, True),
    "a view of another schema": ({"source": "orders", "searchPath": "evil"}, True),
    "a policy that calls": ({"source": "app.bills"}, True),
    "a policy that finds another function": (
        {"source": "app.bills", "searchPath": "evil, public"}, True,
    ),
    "a path that sets": (
        {"source": "orders", "searchPath": "public'; set app.tenant to '2"}, False,
    ),
    "a time zone that sets": (
        {"source": "orders", "timeZone": "UTC', true), set_config('app.tenant', '2"},
        False,
    ),
    "quotes that end": (
        {"source": "orders", "forceQuote": [f'note"), {SET} --']}, False,
    ),
    "a line break that ends": (
        {"source": "orders", "lineBreakText": f"', ''), {SET} --"}, True,
    ),
    "a text for nulls": ({"source": "orders", "nullText": "'||current_user||'"}, True),
    "an encoding": ({"source": "orders", "encoding": "UTF8'; --"}, True),
    "settings": ({"source": "orders", "settings": {"app.tenant": "2"}}, False),
    "a reader": ({"source": "orders", "reader": "postgres"}, False),
    "another requester": ({"source": "orders", "requestedBy": "bob"}, False),
    "lines of JSON": ({"source": "orders", "format": "jsonl"}, True),
}  # fmt: skip


@pytest.fixture
def tenants(conn: Conn) -> Iterator[dict[str, Made]]:
    """Tables with row-level security; the keys of ann, bob, and of one without."""
    name = conn.info.dbname
    conn.execute(TENANTS.replace("{database}", name).encode())
    yield {
        "ann": requester(conn, "ann", settings={"app.tenant": "1"}),
        "bob": requester(conn, "bob", settings={"app.tenant": "2"}),
        "eve": requester(conn, "eve"),
    }
    conn.execute(f"alter role csv_reader in database {name} reset all")


async def test_no_tenant_exports_rows_of_another(
    tenants: dict[str, Made], start: Start
) -> None:
    service = await start(auth="keys", worker_slots=4)
    found = []

    async def attempt_it(
        ann: Service, name: str, wanted: bytes, accepted: bool
    ) -> None:
        json_type = {"Content-Type": "application/json"}
        texts = []
        for path in ("/exports?dryRun=true", "/exports"):
            async with ann.http.post(path, data=wanted, headers=json_type) as answer:
                text = await answer.text()
                texts.append(text)
                if answer.status != (
                    422 if not accepted else 202 if path[8:] == "" else 200
                ):
                    found.append((name, path, answer.status, text))
        if answer.status == 202:
            ended = await ann.ended(json.loads(text)["jobId"])
            texts.append(str(ended["error"]))
            if ended["status"] != "completed":
                found.append((name, "", 0, str(ended["error"])))
            else:
                url = f"/exports/{ended['jobId']}/download"
                async with ann.http.get(url) as answer:
                    texts.append(await answer.text())
        # The request itself may hold the word, and so may its echo.
        if any(SECRET in text.replace("%SECRET%", "") for text in texts):
            found.append((name, "", 0, "shows a row of bob"))

    async with asking(service, tenants["ann"]) as ann:
        for name, (wanted, accepted) in TRIES.items():
            await attempt_it(ann, name, json.dumps(wanted).encode(), accepted)
        escaped = (
            b'{"source": "orders", "filters": [{"column": "note", "op": "ne",'
            b' "value": "\\u0027\\u0020or\\u0020true\\u0020--"}]}'
        )
        await attempt_it(ann, "escapes of JSON", escaped, True)
        mine = await file_of(ann, await ann.export(source="orders"))
        bills = await file_of(ann, await ann.export(source="bills"))
        assert mine.count("note") == 51 and bills == mine
        words = await refusal(ann, query="select 1")
        assert words == "ann may export relations, but no query"
    assert not found, "\n".join(map(str, found))
    async with asking(service, tenants["bob"]) as bob:
        for request in (
            {"source": "orders"},
            {"source": "parts"},
            where("note", "like", "S%"),
        ):
            theirs = await file_of(bob, await bob.export(**request))
            assert theirs.count(SECRET) == 50 and "note 1" not in theirs
    # Who has no settings sees nothing at all; but may query.  A session that knew the
    # setting once has an empty one.
    async with asking(service, tenants["eve"]) as eve:
        assert await refusal(eve, source="orders") in (
            'unrecognized configuration parameter "app.tenant"',
            'invalid input syntax for type integer: ""',
        )
        assert await file_of(eve, await eve.export(query="select 7 as n")) == "n\n7\n"


async def test_a_psql_user_keeps_the_settings_that_they_have(
    tenants: dict[str, Made], conn: Conn, roles: list[str], start: Start
) -> None:
    roles.append("tenant_1")
    conn.execute(
        "create role tenant_1;"
        "grant select, insert on exports to tenant_1;"
        "grant execute on function explain_as_reader, preview_as_reader to tenant_1;"
        'select set_requester(\'tenant_1\', \'{"settings": {"app.tenant": "1"}}\')'
    )
    service = await start()
    conn.execute("set session authorization tenant_1")
    conn.execute("set app.tenant to '2'; set exports.requester to 'bob'")
    shown = conn.execute("select first_rows::text from preview_export('public.orders')")
    row = shown.fetchone()
    assert row and "note" in row[0] and SECRET not in row[0]
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="but no query"):
        conn.execute("select preview_export(p_query => 'select 1')")
    row = conn.execute(
        "insert into exports (source) values ('public.orders') returning id::text"
    ).fetchone()
    assert row and conn.execute("show app.tenant").fetchone() == ("2",)
    file = await file_of(service, {"jobId": row[0]})
    assert file.count("note") == 51 and SECRET not in file


@pytest.mark.parametrize("source", ["orders", "parts"])
async def test_lanes_are_no_way_around(
    tenants: dict[str, Made],
    conn: Conn,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
) -> None:
    monkeypatch.setattr(lanes, "WORTH_IT", 4)
    monkeypatch.setattr(lanes, "FIRST", 2)
    monkeypatch.setattr(attempt, "ROWS_FOR_LANES", 100)
    taken = []
    run = lanes.run

    def counted(*args: Any) -> Iterator[Any]:
        taken.append(source)
        return run(*args)

    monkeypatch.setattr("service.copying.copy.lanes.run", counted)
    conn.execute(
        f"insert into {source} select n, 1 + n % 2,"
        " case n % 2 when 1 then 'SECRET-OF-BOB' else 'note ' || n end"
        " from generate_series(101, 20000) as n;"
        "grant select on parts_1, parts_2 to csv_reader"
    )
    conn.execute(f"analyze {source}")
    service = await start(auth="keys", lanes=2)
    async with asking(service, tenants["ann"]) as ann:
        mine = await file_of(ann, await ann.export(source=source))
    assert mine.count("note") == 10_001 and SECRET not in mine
    # The parts would be read without the policy of the whole.
    assert taken == (["orders"] if source == "orders" else [])


async def test_what_a_requester_has_can_be_changed_over_http(
    tables: dict[str, Made], conn: Conn, start: Start
) -> None:
    service = await start(auth="keys", work=False)
    boss = make_key(conn, "eve", "admin")
    async with asking(service, tables["ann"]) as ann, asking(service, boss) as eve:
        assert await ann.export(source="leads")

        async def changed(name: str, status: int, **changes: Any) -> dict[str, Any]:
            async with eve.http.patch(f"/requesters/{name}", json=changes) as answer:
                assert answer.status == status, await answer.text()
                return await answer.json()

        settings = {"app.tenant": "42"}
        told = await changed("ann", 200, reader="deals_reader", settings=settings)
        assert (told["reader"], told["settings"]) == ("deals_reader", settings)
        # It holds for the next request, though the key was seen before.
        async with ann.http.get("/sources") as answer:
            shown = (await answer.json())["sources"]
        assert [source["source"] for source in shown] == ["deals"]
        assert "leads" in await refusal(ann, source="leads")
        assert "no query" in await refusal(ann, query="select 1")
        told = await changed("ann", 200, settings=None)
        assert (told["reader"], told["settings"]) == ("deals_reader", {})
        assert await ann.export(query="select 1")
        assert (await changed("new", 200))["reader"] is None
        told = await changed("new", 200, maxRunning=0, weight=7)
        assert (told["maxRunning"], told["weight"], told["maxRows"]) == (0, 7, None)
        told = await changed("new", 200, weight=None)
        assert (told["maxRunning"], told["weight"]) == (0, 1)
        async with eve.http.get("/requesters") as answer:
            listed = (await answer.json())["requesters"]
        assert [one["name"] for one in listed] == ["ann", "bob", "eve", "new"]
        for name, changes, words in (
            ("ann", {"reader": "who"}, "there is no reader who"),
            ("ann", {"settings": {"role": "x"}}, "settings have names with a dot"),
            ("ann", {"settings": {"app.tenant": 42}}, "settings/app.tenant"),
            ("ann", {"shoes": 1}, "shoes"),
            ("ann", {"maxRunning": -1}, "maxRunning"),
            ("ann", {"maxRunning": "2"}, "maxRunning"),
            ("ann", {"maxPriority": 10}, "maxPriority"),
            ("ann", {"maxBytes": 2**70}, "maxBytes"),
            ("a b", {}, "String should match"),
            ("csv_service", {}, "is a login of the service"),
        ):
            assert words in (await changed(name, 422, **changes))["detail"]


async def test_commands_make_readers_and_requesters(
    conn: Conn, database: str, roles: list[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    shell = Shell("http://127.0.0.1:1", tmp_path)
    roles.append("leads_reader")
    for _ in range(2):
        done = await shell.run("readers", "add", "leads_reader")
        assert b"exports can run as leads_reader" in done.err
    conn.execute("grant select on users to leads_reader")
    done = await shell.run(
        *("requesters", "set", "ann", "--reader", "leads_reader"),
        *("--setting", "app.tenant=42", "--setting", "app.team=a=b"),
    )
    assert done.err.split(b"\n")[0] == (
        b"ann: reader leads_reader, settings app.team=a=b, app.tenant=42"
    )
    done = await shell.run(
        *("requesters", "set", "bob", "--max-running", "0", "--weight", "3"),
        *("--max-bytes", "1000", "--reset", "max_pending"),
    )
    limits = b"weight 3, max-running 0, max-bytes 1000"
    assert done.err.split(b"\n")[0] == b"bob: " + limits
    done = await shell.run(
        *("requesters", "set", "bob", "--reset", "weight", "--reset", "max_bytes")
    )
    assert done.err.split(b"\n")[0] == b"bob: max-running 0"
    listed = (await shell.run("readers", "list")).out.decode().splitlines()
    assert [line.split() for line in listed] == [
        ["READER", "RELATIONS", "REQUESTERS"],
        ["csv_reader", "1"],
        ["leads_reader", "1", "ann"],
    ]
    listed = (await shell.run("requesters", "list")).out.decode().splitlines()
    assert [line.split() for line in listed] == [
        ["REQUESTER", "READER", "SETTINGS", "LIMITS"],
        ["ann", "leads_reader", "app.team=a=b,", "app.tenant=42"],
        ["bob", "max-running", "0"],
    ]
    for words, *arguments in (
        ("is the reader of ann", "readers", "remove", "leads_reader"),
        ("there is no reader who", "readers", "remove", "who"),
        ("csv_reader cannot be removed", "readers", "remove", "csv_reader"),
        (
            "postgres cannot be a reader: it is a superuser",
            "readers",
            "add",
            "postgres",
        ),
        ("a reader has a short name", "readers", "add", "x" * 47),
        ("there is no reader who", "requesters", "set", "ann", "--reader", "who"),
        ("a requester has a plain name", "requesters", "set", "a b"),
        ("names with a dot", "requesters", "set", "ann", "--setting", "role=x"),
    ):
        assert words in (await shell.run(*arguments, code=1)).err.decode()
    done = await shell.run("requesters", "set", "ann", "--setting", "x", code=2)
    assert b"write app.tenant=42" in done.err
    await shell.run(
        *("requesters", "set", "ann", "--reset", "reader", "--reset", "settings")
    )
    done = await shell.run("readers", "remove", "leads_reader")
    assert b"the role is kept" in done.err
    row = conn.execute("select reader, settings from requesters where name = 'ann'")
    assert row.fetchone() == (None, {})


async def test_whom_a_proxy_names_has_their_reader(
    tables: dict[str, Made], start: Start
) -> None:
    service = await start(auth="proxy", auth_proxies="127.0.0.0/8")
    for name, mine in (("ann", "leads"), ("bob", "deals"), ("eve", "users")):
        headers = {"X-Forwarded-User": name}
        async with aiohttp.ClientSession(service.url, headers=headers) as http:
            async with http.get("/sources") as answer:
                shown = (await answer.json())["sources"]
            assert [source["source"] for source in shown] == [mine]
            async with http.post("/exports", json={"source": mine}) as answer:
                assert answer.status == 202, await answer.text()


async def test_nobody_who_shows_no_key_changes_requesters(start: Start) -> None:
    service = await start(work=False)
    async with service.http.get("/requesters") as answer:
        assert answer.status == 403
    async with service.http.patch("/requesters/ann", json={}) as answer:
        assert answer.status == 403


async def test_a_reader_that_cannot_log_in_is_said_to(
    tables: dict[str, Made], conn: Conn, start: Start
) -> None:
    service = await start(auth="keys")
    async with asking(service, tables["ann"]) as ann:
        conn.execute("alter role leads_reader nologin")
        async with ann.http.post("/exports", json={"source": "leads"}) as answer:
            assert answer.status == 503 and "Retry-After" in answer.headers
            assert "leads_reader" in (await answer.json())["detail"]
        conn.execute("alter role leads_reader login")
        export = await ann.export(source="leads")
        assert await file_of(ann, export) == "kind\nleads\n"


SECURITY = Path(__file__).parents[2] / "docs" / "security.md"


def example(heading: str) -> list[tuple[str, str]]:
    """Return the blocks of an example in the documentation, each with its language."""
    _, _, text = SECURITY.read_text().partition(f"### Example: {heading}\n")
    text, _, _ = text.partition("\n## ")
    text, _, _ = text.partition("\n### ")
    found = re.findall(r"```(sql|console)\n(.*?)```", text, re.DOTALL)
    assert {language for language, _ in found} == {"sql", "console"}
    return found


async def follow(blocks: list[tuple[str, str]], shell: Shell, conn: Conn) -> list[str]:
    """Do what the example says; return what the commands print, but for remarks."""
    printed, told = [], ""
    for language, text in blocks:
        if language == "sql":
            conn.execute(text.encode())
            continue
        for line in text.splitlines():
            if command := line.removeprefix("$ csv-export "):
                if command == line:
                    assert line in told, (line, told)
                    continue
                done = await shell.run(*shlex.split(command))
                told = done.err.decode()
                printed.append(done.out.decode().strip())
    return printed


async def test_the_example_with_tenants_works(
    conn: Conn, database: str, start: Start, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    service = await start(auth="keys")
    shell = Shell(service.url, tmp_path)
    conn.execute(
        "create table orders as"
        " select n as id, 40 + n % 3 as tenant_id from generate_series(1, 30) as n"
    )
    *_, key = await follow(example("an application with tenants"), shell, conn)
    async with asking(service, Made("", key)) as acme:
        file = await file_of(acme, await acme.export(source="orders"))
        assert {line.partition(",")[2] for line in file.split()} == {"tenant_id", "42"}
        assert "no query" in await refusal(acme, query="select * from orders")
    async with asking(service, requester(conn, "other")) as other:
        file = await file_of(other, await other.export(source="orders"))
        assert file == "id,tenant_id\n"


async def test_the_example_with_analysts_works(
    conn: Conn,
    database: str,
    roles: list[str],
    start: Start,
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    service = await start(auth="keys")
    roles += ["sales_reader", "ann"]
    conn.execute("create schema sales; create table sales.deals as select 7 as n")
    await follow(example("a company with analysts"), Shell(service.url, tmp_path), conn)
    conn.execute("set session authorization ann")
    assert conn.execute("select source from sources").fetchall() == [("sales.deals",)]
    conn.execute("insert into exports (source) values ('sales.deals')")
    for denied in (
        "insert into exports (source) values ('users')",
        "select * from sales.deals",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(denied)
    row = conn.execute("select id::text from exports").fetchone()
    assert row
    conn.execute("reset session authorization")
    async with asking(service, requester(conn, "ann", reader="sales_reader")) as ann:
        assert await file_of(ann, {"jobId": row[0]}) == "n\n7\n"
