"""INSERT as an API: what it compiles, what it refuses, and with which messages."""

from typing import Any

import psycopg
import pytest
from psycopg import errors

Conn = psycopg.Connection[Any]


def submit(conn: Conn, **request: Any) -> tuple[Any, ...]:
    row = conn.execute(
        "insert into exports (source, columns, query)"
        " values (%(source)s, %(columns)s, %(query)s) returning status, sql_text, estimated_rows",
        {"source": None, "columns": None, "query": None, **request},
    ).fetchone()
    assert row
    return row


def test_default_values_export_the_default_source(conn: Conn) -> None:
    row = conn.execute(
        "insert into exports default values returning status, source, sql_text"
    ).fetchone()
    assert row == ("pending", "users", "select * from public.users as t")
    conn.execute("set exports.default_source = 'pg_class'")
    row = conn.execute("insert into exports default values returning source").fetchone()
    assert row == ("pg_class",)


def test_source_and_columns_are_compiled_with_an_estimate(conn: Conn) -> None:
    status, text, estimated = submit(conn, source="users", columns=["name", "id"])
    assert (status, text) == ("pending", "select t.name, t.id from public.users as t")
    assert estimated == 2_000


def test_odd_names_are_quoted(conn: Conn) -> None:
    conn.execute('create schema "My Schema"')
    conn.execute('create table "My Schema"."Order; drop" ("a""b" int, "User" text)')
    conn.execute('grant usage on schema "My Schema" to csv_reader')
    conn.execute('grant select on "My Schema"."Order; drop" to csv_reader')
    _, text, _ = submit(
        conn, source='"My Schema"."Order; drop"', columns=['a"b', "User"]
    )
    assert text == 'select t."a""b", t."User" from "My Schema"."Order; drop" as t'


def test_a_mixed_case_name_needs_no_quotes(conn: Conn) -> None:
    conn.execute('create view "Users" as select 1 as n')
    conn.execute('grant select on "Users" to csv_reader')
    assert submit(conn, source='"Users"')[1] == 'select * from public."Users" as t'
    conn.execute('create view "Orders" as select 1 as n')
    conn.execute('grant select on "Orders" to csv_reader')
    assert submit(conn, source="Orders")[1] == 'select * from public."Orders" as t'


@pytest.mark.parametrize(
    "query, text",
    [
        ("select 1;", "select 1"),
        ("select 1 ;  \n", "select 1 "),
        ("select 1 -- comment", "select 1 -- comment"),
        ("select 1 -- comment;", "select 1 -- comment"),
        ("values (1), (2)", "values (1), (2)"),
        ("table users", "table users"),
        (
            "with a as (select 1) select * from a",
            "with a as (select 1) select * from a",
        ),
        ("select 'a;'", "select 'a;'"),
        # Text around a statement that psql accepts.
        ("select 1; -- done", "select 1"),
        ("select 1;;", "select 1"),
        ("select 1; /* a /* nested */ comment */ ; -- and more\n;", "select 1"),
        ("; select 1;", "select 1"),
        ("\ufeffselect 1; -- byte order mark", "select 1"),
        ("select ';-- a' as a; --b", "select ';-- a' as a"),
        ("select $$;--$$ as a;/*x*/", "select $$;--$$ as a"),
        ('select 1 as ";--"', 'select 1 as ";--"'),
        (
            "select 1 -- what; /* why\n + 2 -- */",
            "select 1 -- what; /* why\n + 2 -- */",
        ),
        ("select 1 -- a; -- b\n; -- c", "select 1 -- a; -- b\n"),
    ],
)
def test_a_query_is_taken_as_it_is(conn: Conn, query: str, text: str) -> None:
    assert submit(conn, query=query)[1] == text


@pytest.mark.parametrize(
    "query, error, words",
    [
        ("select 1; select 2", errors.SyntaxError, "one statement"),
        ("select 1; delete from users", errors.SyntaxError, "one statement"),
        (
            "select 1) TO STDOUT; COMMIT; DELETE FROM users; COPY (select 2",
            errors.SyntaxError,
            ")",
        ),
        ("select 1) TO PROGRAM 'id' --", errors.SyntaxError, ")"),
        ("select 1) x, (select 2", errors.SyntaxError, ")"),
        ("delete from users returning *", errors.InsufficientPrivilege, "users"),
        (
            "with gone as (delete from users returning *) select * from gone",
            errors.InsufficientPrivilege,
            "users",
        ),
        (
            "insert into users default values returning *",
            errors.InsufficientPrivilege,
            "users",
        ),
        ("create table copy as select 1", errors.SyntaxError, "create"),
        ("select 1 into copy", errors.SyntaxError, "INTO"),
        ("select $1", errors.UndefinedParameter, "$1"),
        ("", errors.CheckViolation, "a_query_is_not_blank"),
        (" \n", errors.CheckViolation, "a_query_is_not_blank"),
        (";", errors.SyntaxError, "end of input"),
        ("-- nothing", errors.SyntaxError, "end of input"),
        ("explain select 1", errors.SyntaxError, "explain"),
        ("explain analyze delete from users", errors.SyntaxError, "explain"),
        ("analyze delete from users", errors.SyntaxError, "analyze"),
        ("show all", errors.SyntaxError, "show"),
        ("select * from nowhere", errors.UndefinedTable, "nowhere"),
        ("select nothing from users", errors.UndefinedColumn, "nothing"),
        ("select date 'x'", errors.InvalidDatetimeFormat, "x"),
        ("select * from exports", errors.InsufficientPrivilege, "exports"),
        ("select * from reader_login", errors.InsufficientPrivilege, "reader_login"),
        (
            "select rolpassword from pg_authid",
            errors.InsufficientPrivilege,
            "pg_authid",
        ),
    ],
)
def test_what_is_no_harmless_select_is_refused(
    conn: Conn, query: str, error: type[psycopg.Error], words: str
) -> None:
    with pytest.raises(error, match=words.replace("$", r"\$").replace(")", r"\)")):
        submit(conn, query=query)
    assert conn.execute("select count(*) from exports").fetchone() == (0,)
    assert conn.execute("select count(*) from users").fetchone() == (2_000,)


def test_writing_is_refused_even_where_it_is_granted(conn: Conn) -> None:
    conn.execute("create table notes (n int)")
    conn.execute("grant all on notes to csv_reader")
    for query in (
        "insert into notes values (1) returning n",
        "with new as (insert into notes values (1) returning n) select * from new",
    ):
        with pytest.raises(errors.FeatureNotSupported, match="only reads"):
            submit(conn, query=query)
    assert conn.execute("select count(*) from notes").fetchone() == (0,)


@pytest.mark.parametrize(
    "request_, error, words",
    [
        (
            {"source": "nowhere"},
            errors.UndefinedTable,
            'relation "nowhere" does not exist',
        ),
        (
            {"source": "users; drop table users"},
            errors.UndefinedTable,
            "does not exist",
        ),
        ({"source": ""}, errors.UndefinedTable, "does not exist"),
        ({"source": "users_pkey"}, errors.WrongObjectType, "not a table"),
        ({"source": "exports"}, errors.InsufficientPrivilege, "exports"),
        ({"source": "users", "columns": ["nam"]}, errors.UndefinedColumn, '"nam"'),
        (
            {"source": "users", "columns": ["row_to_json"]},
            errors.UndefinedColumn,
            "row_to_json",
        ),
        ({"source": "users", "columns": ["users"]}, errors.UndefinedColumn, '"users"'),
        (
            {"source": "users", "columns": ["id, name"]},
            errors.UndefinedColumn,
            "id, name",
        ),
        (
            {"source": "users", "columns": []},
            errors.CheckViolation,
            "columns_are_named",
        ),
        (
            {"source": "users", "columns": [None]},
            errors.CheckViolation,
            "columns_are_named",
        ),
        (
            {"query": "select 1", "columns": ["a"]},
            errors.CheckViolation,
            "columns_belong_to_a_source",
        ),
        (
            {"query": "select 1", "source": "users"},
            errors.CheckViolation,
            "an_export_has_a_source_or_a_query",
        ),
    ],
)
def test_a_bad_source_is_refused(
    conn: Conn, request_: dict[str, Any], error: type[psycopg.Error], words: str
) -> None:
    with pytest.raises(error, match=words):
        submit(conn, **request_)
    assert conn.execute("select count(*) from exports").fetchone() == (0,)


def test_an_unknown_column_comes_with_the_known_ones(conn: Conn) -> None:
    with pytest.raises(errors.UndefinedColumn) as caught:
        submit(conn, source="users", columns=["nam"])
    assert "name, email" in (caught.value.diag.message_hint or "")


@pytest.mark.parametrize(
    "columns",
    [
        "status) values ('completed'",
        "attempt) values (7",
        "sha256) values (repeat('a', 64)",
        "worker) values ('me'",
        "finished_at) values (now()",
    ],
)
def test_nobody_inserts_what_only_a_worker_may_say(conn: Conn, columns: str) -> None:
    with pytest.raises(errors.CheckViolation, match="starts as pending"):
        conn.execute(f"insert into exports ({columns})")


def test_the_file_is_named_by_the_row_alone(conn: Conn) -> None:
    with pytest.raises(errors.GeneratedAlways):
        conn.execute("insert into exports (file_path) values ('/etc/passwd')")
    with pytest.raises(errors.GeneratedAlways):
        conn.execute("update exports set file_path = '/etc/passwd'")


def test_instants_that_no_calendar_has_are_refused(conn: Conn) -> None:
    with pytest.raises(errors.CheckViolation, match="instants_are_of_our_calendar"):
        conn.execute("insert into exports (run_at) values ('infinity')")


def test_another_role_submits_with_no_more_than_it_was_granted(conn: Conn) -> None:
    conn.execute(
        "do $$ begin create role alice_submits;"
        " exception when duplicate_object or unique_violation then null; end $$"
    )
    conn.execute("grant select, insert, update (status) on exports to alice_submits")
    conn.execute("grant execute on function explain_as_reader to alice_submits")
    conn.execute("set role alice_submits")
    conn.execute("insert into exports (source) values ('users')")
    with pytest.raises(errors.InsufficientPrivilege):
        submit(conn, query="select * from exports")
    with pytest.raises(errors.InsufficientPrivilege):
        conn.execute("select * from claim_exports('alice', '1 h')")
    with pytest.raises(errors.InsufficientPrivilege):
        conn.execute("update exports set transition = 'complete', status = 'completed'")
    conn.execute("update exports set status = 'cancelled'")
    assert conn.execute("select status from exports").fetchall() == [("cancelled",)]


def test_the_checker_keeps_nothing_of_the_caller(conn: Conn) -> None:
    """A hostile search_path applies to names in the query, not to the checker's own."""
    conn.execute("create schema evil")
    conn.execute(
        "create function evil.set_config(text, text, boolean) returns text"
        " language plpgsql as $$ begin raise 'hijacked'; end $$"
    )
    conn.execute("set search_path = evil, public, pg_catalog")
    assert submit(conn, query="select * from users")[2] == 2_000
    assert conn.execute("show search_path").fetchone() == ("evil, public, pg_catalog",)


def test_an_export_may_lock_no_more_than_the_database_says(conn: Conn) -> None:
    """A view over thousands of relations could use up all locks of the server."""
    conn.execute(
        "create table parts (n int) partition by range (n);"
        "do $$ begin for i in 1..60 loop execute format("
        "'create table part_%s partition of parts for values from (%s) to (%s)',"
        " i, i, i + 1); end loop; end $$;"
        "grant select on parts to csv_reader"
    )
    submit = "insert into exports (query) values (%s)"
    conn.execute(submit, ["select * from parts"])
    conn.execute("select set_config('exports.max_locks', '50', false)")
    with pytest.raises(errors.ProgramLimitExceeded) as refused:
        conn.execute(submit, ["select * from parts"])
    assert "relations and indexes" in str(refused.value)
    assert refused.value.diag.message_hint == (
        "Not more than 50 are allowed: exports.max_locks."
    )
    conn.execute(submit, ["select * from parts where n = 7"])  # locks only one part
    conn.execute(submit, ["select 1"])
