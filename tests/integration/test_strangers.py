"""Unusual queries of strangers: the rows and the bytes are those of psql."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from service.copying.command import unique_names
from service.model import Column
from service.postgres import embedded, schema

from ..conftest import Service, Start

Conn = psycopg.Connection[Any]

SCHEMA = """
create schema app;
create schema hidden;
create type mood as enum ('sad', 'ok');
create type app.colour as enum ('red', 'blue');
create type comp as (a int, b text);
create domain posint as int check (value > 0);
create domain app.code as char(5);
create table kinds (
    id int, c char(5), b bit(3), vb varbit(5), m mood, col app.colour, p posint, k app.code,
    r comp, n numeric(40, 5), ia int[], ma mood[], rng int4range, ts timestamp, iv interval,
    j jsonb, u uuid, nm name, ch "char", "odd ""name" text, "first name" text
);
insert into kinds values
    (1, 'ab', '101', '1', 'ok', 'red', 5, 'x', '(1,x)', 12345678901234567890.123, '{1,2}', '{ok}',
     '[1,5)', '2026-01-02 03:04', '1 day', '{"a": 1}', '00000000-0000-0000-0000-000000000001',
     'nm', '=', '5%', 'Ann'),
    (2, 'a', '001', '101', 'sad', 'blue', 7, 'y', '(2,)', 1.5, '{}', '{sad,ok}', 'empty',
     'infinity', '-2 hours', '[]', null, 'a%b', '-', '50%%', 'B%o');
create function active() returns setof kinds language sql stable as
    'select * from kinds where p > 5';
create view v_active as select * from active();
create function rate(text) returns numeric language plpgsql immutable as
    $$ begin return (select n from kinds where nm = 'a%b'); end $$;
create table app.only_app (a int);
insert into app.only_app values (42);
create table app.twin (a text);
create table public.twin (a text);
insert into app.twin values ('app');
insert into public.twin values ('public');
create table expo (id int, export comp);
insert into expo values (1, '(9,x)'), (2, null);
grant usage on schema app to csv_reader;
grant select on all tables in schema public, app to csv_reader;
revoke select on exports, deleted_files, reader_login, exports_migrations from csv_reader;
"""


@pytest.fixture
def strange(conn: Conn) -> Conn:
    conn.execute(SCHEMA)
    return conn


async def exported(service: Service, **request: Any) -> tuple[dict[str, Any], bytes]:
    """Submit, wait, and download what must succeed."""
    async with service.http.post("/exports", json=request) as answer:
        assert answer.status == 202, await answer.text()
        export = await answer.json()
    export = await service.ended(export["jobId"])
    assert export["status"] == "completed", export["error"]
    async with service.http.get(f"/exports/{export['jobId']}/download") as answer:
        return export, await answer.read()


async def refused(service: Service, **request: Any) -> dict[str, Any]:
    async with service.http.post("/exports", json=request) as answer:
        assert answer.status in (409, 422), await answer.text()
        return await answer.json()


QUERIES = [
    # text with what looks like placeholders
    "select '100%%' as x",
    "select 10 % 3 as x, '%s %b %t %(a)s' as y",
    """select format('%%'), '{"a":"5 %%"}'::json as j""",
    "select * from kinds where nm like 'a%' order by id",
    # around the SELECT
    "select 1 as a; -- done",
    "select 1 as a;;",
    "select 1 as a; /* x */",
    "/* before */ select 1 as a",
    "select 1 as a -- no end",
    # names in bodies, and inlined functions
    "select * from active()",
    "select * from v_active",
    "select rate('EUR')",
    # the planner's estimate is beyond bigint
    "select 1 as a from " + " cross join ".join(
        f"json_array_elements('[1]') j{n}" for n in range(10)),
    # odd values
    r"select E'a\nb' as x, '\n' as y, null as z, '' as empty",
    "select c, k, nm, ch, b from kinds order by id",
    "values (1, 'a'), (2, null)",
    "table kinds",
    "select 1, 2, 1 as a, 2 as a",
    "with x as (select 1 as y) select * from x",
]  # fmt: skip


@pytest.mark.newest
async def test_psql_and_the_service_give_the_same_bytes(
    service: Service, strange: Conn, tmp_path: Path
) -> None:
    for query in QUERIES:
        _, body = await exported(service, query=query)
        plain = re.sub(r";[\s;]*(--.*|/\*.*\*/)?$", "", query)
        file = tmp_path / "select.csv"
        script = tmp_path / "copy.sql"
        script.write_text(f"copy (\n{plain}\n) to stdout with (format csv, header)")
        expected = psql_file(service.database, script, file)
        assert body == expected, query


def psql_file(database: str, script: Path, to: Path) -> bytes:
    psql = max(embedded.find_binaries().items())[1] / "psql"
    command: list[str | Path] = [
        psql,
        "-Xqd",
        database,
        "-v",
        "ON_ERROR_STOP=1",
        "-f",
        script,
    ]
    done = subprocess.run(command, check=True, capture_output=True)
    to.write_bytes(done.stdout)
    return done.stdout


@pytest.mark.parametrize(
    "column, op, value, condition",
    [
        ("c", "eq", "ab", "c = 'ab'"),
        ("c", "ne", "ab", "c <> 'ab'"),
        ("c", "in", ["ab", "zz"], "c in ('ab', 'zz')"),
        ("c", "between", ["ab", "b"], "c between 'ab' and 'b'"),
        ("c", "like", "ab%", "c like 'ab%'"),
        ("b", "eq", "101", "b = '101'"),
        ("vb", "eq", "101", "vb = '101'"),
        ("m", "eq", "ok", "m = 'ok'"),
        ("m", "gt", "sad", "m > 'sad'"),
        ("col", "in", ["red"], "col in ('red')"),
        ("p", "gt", -3, "p > -3"),
        ("k", "eq", "x", "k = 'x'"),
        ("r", "eq", "(1,x)", "r = '(1,x)'::comp"),
        ("n", "eq", "12345678901234567890.123", "n = 12345678901234567890.123"),
        ("n", "lt", 10**25, "n < 10000000000000000000000000"),
        ("ia", "eq", "{1,2}", "ia = '{1,2}'"),
        ("ma", "eq", "{ok}", "ma = '{ok}'"),
        ("rng", "eq", "[1,5)", "rng = '[1,5)'"),
        ("ts", "gte", "2026-01-02", "ts >= '2026-01-02'"),
        ("iv", "lt", "1 hour", "iv < '1 hour'"),
        ("j", "eq", '{"a": 1}', "j = '{\"a\": 1}'"),
        ("u", "isNull", None, "u is null"),
        ("nm", "like", "a%b", "nm like 'a%b'"),
        ("ch", "eq", "=", "ch = '='"),
        ('odd "name', "eq", "50%%", '"odd ""name" = \'50%%\''),
        ("first name", "ilike", "b%O", "\"first name\" ilike 'b%O'"),
    ],
)
@pytest.mark.newest
async def test_filters_compare_as_sql_does(
    service: Service, strange: Conn, tmp_path: Path, column: str, op: str, value: Any,
    condition: str,
) -> None:  # fmt: skip
    one = {"column": column, "op": op} | ({} if value is None else {"value": value})
    _, body = await exported(
        service, source="kinds", columns=["id"], filters=[one], orderBy=["id"]
    )
    script = tmp_path / "copy.sql"
    script.write_text(
        f"copy (select id from kinds where {condition} order by id)"
        " to stdout with (format csv, header)"
    )
    assert body == psql_file(service.database, script, tmp_path / "out")
    assert body != b"id\n", "a condition that no row meets proves nothing"


@pytest.mark.newest
async def test_every_digit_of_a_number_counts(service: Service, strange: Conn) -> None:
    text = (
        '{"source": "kinds", "columns": ["id"], "filters": [{"column": "n", "op": "eq",'
        ' "value": 12345678901234567890.123}]}'
    )
    async with service.http.post(
        "/exports", data=text, headers={"Content-Type": "application/json"}
    ) as answer:
        assert answer.status == 202, await answer.text()
        export = await service.ended((await answer.json())["jobId"])
    assert export["rows"] == 1


@pytest.mark.newest
async def test_what_cannot_be_compared_is_refused_in_postgresqls_words(
    service: Service, strange: Conn
) -> None:
    for column, value, words in (
        ("m", "glad", "invalid input value for enum"),
        ("p", "x", "invalid input syntax for type integer"),
        ("b", "12", "not a valid binary digit"),
    ):
        one = {"column": column, "op": "eq", "value": value}
        problem = await refused(service, source="kinds", filters=[one])
        assert words in problem["detail"]


@pytest.mark.newest
async def test_the_readers_own_path_decides_what_a_name_means(
    start: Start, strange: Conn
) -> None:
    name = strange.info.dbname
    strange.execute(
        f"alter role csv_reader in database {name} set search_path = app, public"
    )
    service = await start()
    assert (await exported(service, query="select * from only_app"))[1] == b"a\n42\n"
    assert (await exported(service, query="select * from twin"))[1] == b"a\napp\n"
    assert (await exported(service, source="twin"))[1] == b"a\napp\n"
    export, body = await exported(service, source="twin", searchPath="public")
    assert (export["searchPath"], body) == ("public", b"a\npublic\n")
    async with service.http.get("/sources") as answer:
        names = {one["source"] for one in (await answer.json())["sources"]}
    assert {"twin", "public.twin", "only_app"} <= names


@pytest.mark.newest
async def test_a_session_decides_for_what_it_inserts(
    service: Service, strange: Conn
) -> None:
    strange.execute("set search_path = app")
    row = strange.execute(
        "insert into public.exports (query) values ('select * from twin')"
        " returning id, search_path"
    ).fetchone()
    assert row and row[1] == "app"
    export = await service.ended(str(row[0]))
    async with service.http.get(f"/exports/{export['jobId']}/download") as answer:
        assert await answer.read() == b"a\napp\n"


@pytest.mark.newest
def test_a_name_that_only_the_session_sees_is_no_other_relation(strange: Conn) -> None:
    """Otherwise csv_reader would silently find another relation of that name."""
    strange.execute("create table hidden.twin (a text)")
    strange.execute("set search_path = hidden, public")
    for column, text in (("query", "select * from twin"), ("source", "twin")):
        with pytest.raises(psycopg.errors.UndefinedTable, match="hidden.twin here"):
            strange.execute(
                f"insert into exports ({column}) values (%s)",
                [text],
            )


@pytest.mark.parametrize(
    "change",
    [
        "create table app.kinds as select 1 as id; grant select on app.kinds to csv_reader",
        "alter table public.kinds set schema hidden; create table app.kinds as select 1 as id;"
        " grant select on app.kinds to csv_reader",
    ],
)
@pytest.mark.newest
async def test_a_name_that_came_to_mean_another_relation_is_an_error(
    start: Start, strange: Conn, change: str
) -> None:
    service = await start(work=False)
    export = await service.export(
        query="select id from kinds", searchPath="app, public"
    )
    strange.execute(change)
    await start(serve=False)
    ended = await service.ended(export["jobId"])
    assert ended["status"] == "failed"
    assert "public.kinds" in ended["error"]["message"]


@pytest.mark.newest
async def test_json_lines_are_json(service: Service, strange: Conn) -> None:
    cases: list[tuple[dict[str, Any], list[Any]]] = [
        ({"query": "select E'{\"a\":\\n1}'::json as j"}, [{"j": {"a": 1}}]),
        ({"query": "select array[E'[1,\\r\\n2]'::json] as j"}, [{"j": [[1, 2]]}]),
        ({"query": "select row(E'{\\n}'::json) as r"}, [{"r": {"f1": {}}}]),
        ({"query": "select 1 as export"}, [{"export": 1}]),
        (
            {"source": "expo", "orderBy": ["id"]},
            [{"id": 1, "export": {"a": 9, "b": "x"}}, {"id": 2, "export": None}],
        ),
        ({"query": "select 1 as a, 2 as a, 3 as a_2"}, [{"a": 1, "a_3": 2, "a_2": 3}]),
        ({"query": "select 1, 2"}, [{"?column?": 1, "?column?_2": 2}]),
        ({"query": "select E'a\\nb' as t, null as n"}, [{"t": "a\nb", "n": None}]),
    ]
    for request, expected in cases:
        _, body = await exported(service, format="jsonl", **request)
        assert body.endswith(b"\n")
        assert [json.loads(line) for line in body.splitlines()] == expected, request


@pytest.mark.newest
async def test_headers_that_are_changed_stay_names(service: Service) -> None:
    """Empty, longer than a name may be, or the same as another one."""
    long = "=" + "a" * 62
    cases: list[tuple[dict[str, Any], bytes]] = [
        ({"query": r"""select 1 as U&"\000a" """, "lineBreakText": ""}, b" \n1\n"),
        (
            {"query": f'select 1 as "{long}"', "formulaGuard": True},
            f"'{long[:62]}\n1\n".encode(),
        ),
        (
            {
                "query": r"""select 1 as "a b", 2 as U&"a\000ab" """,
                "lineBreakText": " ",
                "forceQuote": ["a\nb"],
            },
            b'a b,a b\n"1","2"\n',
        ),
    ]
    for request, expected in cases:
        _, body = await exported(service, **request)
        assert body == expected, request


def test_numbered_names_stay_within_an_identifier() -> None:
    long = "é" * 31 + "x"
    names = unique_names([Column(name=long, type="int")] * 3)
    assert len(set(names)) == 3
    assert all(len(name.encode()) <= 63 for name in names)


@pytest.mark.newest
async def test_a_dry_run_shows_every_column_and_cuts_what_is_long(
    service: Service, strange: Conn
) -> None:
    # Stored values are compressed, so their size says little about their length.
    strange.execute("create table public.packed as select repeat('y', 50000) as text")
    strange.execute("grant select on packed to csv_reader")
    query = (
        "select 1 as a, 2 as a, repeat('x', 50000000) as long, '[1]'::json as j,"
        " (select text from packed) as packed"
    )
    async with service.http.post(
        "/exports", params={"dryRun": "true"}, json={"query": query}
    ) as answer:
        text = await answer.text()
    assert len(text) < 10_000
    (row,) = json.loads(text)["rows"]
    assert (row["a"], row["a_2"], row["j"]) == (1, 2, [1])
    assert row["long"].endswith("... (50000000 characters)")
    assert row["packed"].endswith("... (50000 characters)")


@pytest.mark.newest
async def test_what_can_be_known_at_submit_is_refused_there(
    service: Service, strange: Conn
) -> None:
    strange.execute("create table nothing ()")
    strange.execute("grant select on nothing to csv_reader")
    for request, words in (
        ({"query": "select"}, "at least one column"),
        ({"query": "select union select"}, "at least one column"),
        ({"source": "nothing"}, "at least one column"),
        ({"query": "select 1 as a", "forceQuote": ["b"]}, "b does not exist"),
        ({"query": "select 1", "encoding": "KLINGON"}, "no encoding"),
        ({"query": "select 1", "encoding": "MULE_INTERNAL"}, "cannot convert"),
        ({"query": "select 1", "bom": True, "header": False}, "byte order mark"),
        ({"query": "select 1", "profile": "excel", "nullText": "=1"}, "for a formula"),
        ({"query": "select 1", "format": "jsonl", "encoding": "LATIN1"}, "json"),
        ({"query": "select 1", "searchPath": '"a'}, "search_path"),
    ):
        assert words in (await refused(service, **request))["detail"], request
    async with service.http.post(
        "/exports", params={"dryRun": "true"}, json={"query": "select"}
    ) as answer:
        assert answer.status == 422


@pytest.mark.newest
async def test_an_error_has_its_place_in_the_text_that_was_sent(
    service: Service, strange: Conn
) -> None:
    for query, position, line, column in (
        ("select id,\n nam\nfrom kinds", 13, 2, 2),
        ("\ufeff select nam from kinds; -- x", 9, 1, 9),
        ("select 'é', nam from kinds", 13, 1, 13),
        ("select 1 +", 11, 1, 11),
    ):
        problem = await refused(service, query=query)
        place = problem.get("position"), problem.get("line"), problem.get("column")
        assert place == (position, line, column), query
    assert "position" not in await refused(service, source="nowhere")


@pytest.mark.newest
async def test_a_lock_and_a_slow_plan_are_called_what_they_are(
    start: Start, strange: Conn
) -> None:
    strange.execute(
        "create function slow(int) returns int language plpgsql immutable as"
        " $$ begin perform pg_sleep(20); return 1; end $$"
    )
    service = await start(submit_timeout=1)
    problem = await refused(service, query="select slow(1)")
    assert problem["type"] == "/docs#slow-plan"
    async with service.http.post(
        "/exports", params={"dryRun": "true"}, json={"query": "select pg_sleep(20)"}
    ) as answer:
        assert (await answer.json())["type"] == "/docs#slow-preview"
    with psycopg.connect(service.database) as other:
        other.execute("lock table kinds in access exclusive mode")
        async with service.http.get("/sources") as answer:
            assert answer.status == 200
        service = await start()
        for request in ({"source": "kinds"}, {"query": "select * from kinds"}):
            problem = await refused(service, **request)
            assert problem["type"] == "/docs#locked"


ENCODED = "select 'é€' as \"ü\", 1.5 as n"


@pytest.mark.parametrize(
    "encoding, codec, charset",
    [
        ("WIN1252", "cp1252", "windows-1252"),
        ("utf-16", "utf-16", "utf-16"),
        ("LATIN9", "iso8859-15", "iso-8859-15"),
        ("UTF-8", "utf-8", "utf-8"),
    ],
)
@pytest.mark.newest
async def test_files_in_other_encodings(
    service: Service, encoding: str, codec: str, charset: str
) -> None:
    for compression in ("none", "gzip"):
        request = {"query": ENCODED, "encoding": encoding, "compression": compression}
        async with service.http.post("/exports", json=request) as answer:
            export = await service.ended((await answer.json())["jobId"])
        assert export["status"] == "completed", export["error"]
        url = f"/exports/{export['jobId']}/download"
        async with service.http.get(url) as answer:
            body = await answer.read()
            if compression == "none":
                assert f"charset={charset}" in answer.headers["Content-Type"]
            else:
                import gzip

                body = gzip.decompress(body)
        assert body.decode(codec) == "ü,n\né€,1.5\n"


@pytest.mark.newest
async def test_a_character_that_the_encoding_lacks_fails_with_its_row(
    service: Service,
) -> None:
    query = "select case n when 70000 then '€' else 'x' end from generate_series(1, 90000) n"
    export = await service.export(query=query, encoding="LATIN1")
    ended = await service.ended(export["jobId"])
    assert ended["status"] == "failed"
    assert "row 70,000" in ended["error"]["message"]


@pytest.mark.newest
async def test_options_that_users_ask_for(service: Service) -> None:
    query = "select null as a, '' as b, 'x' as c, 1.5 as d, -2.25::float8 as e, 7 as f"
    _, body = await exported(service, query=query, forceQuote=["c", "d"])
    assert body == b'a,b,c,d,e,f\n,"","x","1.5",-2.25,7\n'
    _, body = await exported(service, query=query, decimalComma=True)
    assert body == b'a;b;c;d;e;f\n;"";x;1,5;-2,25;7\n'
    query = r"select E'a\r\nb\nc\\1' as t, array[E'x\ny'] as a"
    _, body = await exported(service, query=query, lineBreakText=r" \& ")
    assert body == b't,a\na \\& b \\& c\\1,"{""x \\& y""}"\n'
    query = "select '00123' as a, '1234567890123456' as b, 12345678901234567::bigint as c, 12 as d"
    _, body = await exported(service, query=query, digitsAsText=True)
    assert (
        body == b"a,b,c,d\n"
        b'"=""00123""","=""1234567890123456""","=""12345678901234567""",12\n'
    )


async def test_the_excel_profile_guards_what_excel_would_run(
    service: Service, strange: Conn
) -> None:
    strange.execute("create type evil as enum ('=happy', '-x')")
    try:
        strange.execute(
            "create collation folding (provider = icu, locale = 'und', deterministic = false)"
        )
    except psycopg.errors.FeatureNotSupported:  # the wheels have no ICU; Debian's has
        strange.execute('create collation folding from "C"')
    query = (
        "select '=happy'::evil as a, '=1+1'::xml as b, '='::\"char\" as c, 1 as \"=1+1\","
        " E'\\n=1+1' as d, '＝1' as e, '-5.00' as f, '-1e5' as g, '-e5' as h, '+49 170 1' as i,"
        " 'x '::char(5) as j, '=1'::text collate folding as k, '@a' as \"-5\""
    )
    try:
        strange.execute("select '<a/>'::xml")
    except psycopg.errors.FeatureNotSupported:  # nor XML
        query = query.replace("'=1+1'::xml", "'=1+1'::text")
    _, body = await exported(service, query=query, profile="excel")
    head, rest = body.decode("utf-8-sig").split("\r\n", 1)
    assert head == "a,b,c,'=1+1,d,e,f,g,h,i,j,k,-5"
    assert rest == (
        "'=happy,'=1+1,'=,1,\"'\n=1+1\",'＝1,-5.00,-1e5,'-e5,'+49 170 1,x    ,'=1,'@a\r\n"
    )


@pytest.mark.parametrize(
    "make, settings",
    [
        ("encoding 'LATIN1' locale 'C'", {}),
        ("encoding 'SQL_ASCII' locale 'C'", {}),
        ("encoding 'EUC_JP' locale 'C'", {}),
        ("encoding 'UTF8' locale 'C'", {"datestyle": "German"}),
        ("encoding 'UTF8' locale 'C'", {"intervalstyle": "sql_standard"}),
        ("encoding 'UTF8' locale 'C'", {"standard_conforming_strings": "off"}),
        ("encoding 'UTF8' locale 'C'", {"search_path": "elsewhere"}),
    ],
)
async def test_every_database(
    server: str, start: Start, tmp_path: Path, make: str, settings: dict[str, str]
) -> None:
    name = f"other_{abs(hash((make, *settings)))}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(f"drop database if exists {name} with (force)")
        conn.execute(f"create database {name} template template0 {make}")
        for key, value in settings.items():
            conn.execute(f"alter database {name} set {key} = {value}")
    database = make_conninfo(server, dbname=name)
    schema.migrate(database)
    schema.seed(database, 100)
    service = await start(database_url=database)
    word = "日本" if "EUC_JP" in make else "é"
    day = "25.11.2026" if "datestyle" in settings else "2026-11-25"
    query = (
        f"select '{word}' as \"{word}\", '{day}'::date as d, interval '1 day -2 hours' as i,"
        r" '\n' as s, 'a%%b' as p"
    )
    script = tmp_path / "copy.sql"
    script.write_text(
        f"set client_encoding to utf8; copy ({query}) to stdout with (format csv, header)"
    )
    _, body = await exported(service, query=query)
    assert body == psql_file(database, script, tmp_path / "out")
    _, body = await exported(service, query=query, format="jsonl")
    assert json.loads(body)[word] == word
    one = {"column": "name", "op": "ne", "value": word}
    for options in ({}, {"profile": "excel"}, {"format": "tsv"}):
        export, _ = await exported(
            service, source="public.users", filters=[one], **options
        )
        assert export["rows"] == 100
    async with service.http.get("/exports") as answer:
        assert len((await answer.json())["exports"]) == 5
    async with service.http.get("/sources") as answer:
        assert answer.status == 200
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("insert into public.exports (source) values ('public.users')")


@pytest.mark.newest
async def test_bytes_that_are_no_text_leave_an_ascii_database_as_they_are(
    server: str, start: Start
) -> None:
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute("drop database if exists raw_bytes with (force)")
        conn.execute(
            "create database raw_bytes template template0 encoding 'SQL_ASCII' locale 'C'"
        )
    database = make_conninfo(server, dbname="raw_bytes")
    schema.migrate(database)
    with psycopg.connect(
        database, autocommit=True, client_encoding="sql_ascii"
    ) as conn:
        conn.execute(b'create table raw ("\xe9t" text, a text)')
        conn.execute(b"insert into raw values (null, '\xe9t')")
        conn.execute("grant select on raw to csv_reader")
        with pytest.raises(psycopg.Error, match="not in UTF-8"):
            conn.execute(b"insert into exports (query) values ('select ''\xe9t''')")
    service = await start(database_url=database)
    async with service.http.get("/sources") as answer:
        assert answer.status == 200
        assert "\\351t" in str(await answer.json()).replace("\\\\", "\\")
    _, body = await exported(service, query="select a from raw", encoding="SQL_ASCII")
    assert body == b"a\n\xe9t\n"
    export = await service.export(query="select a from raw")
    ended = await service.ended(export["jobId"])
    assert "row 1" in ended["error"]["message"]


def test_sql_is_ascii_and_has_no_backslash_in_a_plain_literal() -> None:
    """So it has one meaning in any encoding and without standard_conforming_strings."""
    for path in schema.resource("sql").rglob("*.sql"):
        text = path.read_text(encoding="ascii")
        if path.parent.name == "migrations":
            continue  # run with the setting on
        code = re.sub(r"--.*", "", text)
        for literal in re.findall(r"(?<![\w])'(?:[^']|'')*'", code):
            assert "\\" not in literal, (path.name, literal)


@pytest.mark.newest
async def test_text_is_never_searched_for_placeholders(
    service: Service, strange: Conn
) -> None:
    """For every text in a request, in every call."""
    strange.execute('create table "%s %% %(x)s" ("%t" text)')
    strange.execute('grant select on "%s %% %(x)s" to csv_reader')
    strange.execute("""insert into "%s %% %(x)s" values ('%%b')""")
    request = {
        "source": '"%s %% %(x)s"', "columns": ["%t"], "orderBy": ["%t"],
        "filters": [{"column": "%t", "op": "like", "value": "\\%\\%b"}],
        "delimiter": "!", "nullText": "%s", "filename": "100%s %%.csv", "lineBreakText": "%%",
    }  # fmt: skip
    key = {"Idempotency-Key": "a%2s%%"}
    async with service.http.post("/exports", json=request, headers=key) as answer:
        assert answer.status == 202, await answer.text()
        first = await answer.json()
    async with service.http.post("/exports", json=request, headers=key) as answer:
        assert (await answer.json())["jobId"] == first["jobId"]
    async with service.http.post("/exports?dryRun=true", json=request) as answer:
        assert (await answer.json())["rows"] == [{"%t": "%%b"}]
    ended = await service.ended(first["jobId"])
    async with service.http.get(f"/exports/{ended['jobId']}/download") as answer:
        assert await answer.read() == b"%t\n%%b\n"
    for name in ("source", "requestedBy"):
        async with service.http.get("/exports", params={name: "%s %%"}) as answer:
            assert (await answer.json())["exports"] == []
    async with service.http.get(
        "/exports", params={"source": str(request["source"])}
    ) as answer:
        assert len((await answer.json())["exports"]) == 1


@pytest.mark.newest
async def test_a_type_with_a_json_cast_of_its_own_is_written_as_its_text(
    service: Service, conn: Conn
) -> None:
    """PostGIS has such a cast for geometries, and it refuses some; also in arrays."""
    conn.execute(
        "create type shape as enum ('point', 'curve');"
        "create function as_json(shape) returns json language plpgsql as $$ begin"
        " if $1 = 'curve' then raise 'not supported'; end if; return '{}'; end $$;"
        "create cast (shape as json) with function as_json(shape);"
        "create table shapes as select 'curve'::shape as s, '{curve,point}'::shape[] as ss;"
        "grant select on shapes to csv_reader"
    )
    _, body = await exported(service, source="shapes", format="jsonl")
    assert json.loads(body) == {"s": "curve", "ss": "{curve,point}"}
    async with service.http.post(
        "/exports?dryRun=true", json={"source": "shapes"}
    ) as a:
        assert (await a.json())["rows"] == [{"s": "curve", "ss": "{curve,point}"}]
