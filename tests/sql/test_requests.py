"""Filters, order, limit and format: compiled to typed literals, or refused."""

import json
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

Conn = psycopg.Connection[Any]

HOSTILE = (
    "'; drop table users; --",
    "' or '1'='1",
    "1) or true --",
    '"; select 1',
    "\\'; select pg_sleep(9)",
    "$$; delete from users; $$",
    "%s %(x)s {0}",
    "😀\n\t\r",
    'id"; drop table users; --',
    'users" where 1=1 --',
    "t.id) from users t; --",
    "pg_sleep(9)",
    "*",
    "",
)


def submit(conn: Conn, **columns: Any) -> Any:
    """Insert an export of users; return the SELECT it was compiled to."""
    columns = {"source": "users", **columns}
    names = ", ".join(columns)
    marks = ", ".join(f"%({name})s" for name in columns)
    row = conn.execute(
        f"insert into exports ({names}) values ({marks}) returning sql_text", columns
    ).fetchone()
    assert row
    return row[0]


def filtered(conn: Conn, *filters: Any) -> Any:
    return submit(conn, filters=Jsonb(list(filters)))


def by(column: str, op: str, value: Any = None) -> dict[str, Any]:
    return {"column": column, "op": op} | ({} if value is None else {"value": value})


@pytest.mark.parametrize(
    "condition, where",
    [
        (by("id", "eq", 5), "id = 5"),
        (by("id", "ne", "5"), "id <> 5"),
        (by("balance", "lt", 10.5), "balance < 10.5"),
        (by("balance", "lte", "0"), "balance <= 0"),
        (by("birth_date", "gt", "1990-02-28"), "birth_date > '1990-02-28'"),
        (by("signup_at", "gte", "2023-01-01T00:00:00Z"), "signup_at >= '2023-01-01Z'"),
        (by("birth_date", "between", ["1980-01-01", "1989-12-31"]),
         "birth_date between '1980-01-01' and '1989-12-31'"),
        (by("country", "in", ["DE", "FR"]), "country in ('DE', 'FR')"),
        (by("country", "notIn", ["DE"]), "country not in ('DE')"),
        (by("name", "like", "%Brien%"), "name like '%%Brien%%'"),
        (by("id", "like", "1%"), "id::text like '1%%'"),
        (by("name", "ilike", "o'b%"), "name ilike 'o''b%%'"),
        (by("last_login_at", "isNull"), "last_login_at is null"),
        (by("last_login_at", "notNull"), "last_login_at is not null"),
        (by("is_active", "eq", True), "is_active"),
        (by("is_active", "eq", "f"), "not is_active"),
    ],
)  # fmt: skip
def test_a_filter_selects_what_the_same_condition_does(
    conn: Conn, condition: Any, where: str
) -> None:
    text = filtered(conn, condition)
    ours = conn.execute(f"select count(*), sum(id) from ({text}) as q").fetchone()
    where = where.replace("%%", "%")
    assert (
        ours
        == conn.execute(
            f"select count(*), sum(id) from users where {where}".encode()
        ).fetchone()
    )


def test_all_filters_hold_and_order_and_limit_follow(conn: Conn) -> None:
    text = submit(
        conn,
        columns=["name", "id"],
        filters=Jsonb([by("id", "gt", 10), by("country", "eq", "DE")]),
        order_by=["-signup_at", "id"],
        row_limit=3,
    )
    assert text == (
        "select t.name, t.id from public.users as t where t.id > '10'::bigint"
        " and t.country = 'DE'::text order by t.signup_at desc, t.id limit 3"
    )
    assert conn.execute(text).rowcount == 3


@pytest.mark.parametrize(
    "condition, error, message",
    [
        (by("birth_date", "eq", "yesterdai"), errors.InvalidDatetimeFormat, "yesterdai"),
        (by("id", "eq", "x"), errors.InvalidTextRepresentation, "bigint"),
        (by("id", "eq", 10**30), errors.NumericValueOutOfRange, "range"),
        (by("nam", "eq", 1), errors.UndefinedColumn, '"nam"'),
        (by("id", "="), errors.InvalidParameterValue, 'by "="'),
        (by("id", "in", []), errors.InvalidParameterValue, "at least one"),
        (by("id", "in", 5), errors.InvalidParameterValue, "a list"),
        (by("id", "between", [1]), errors.InvalidParameterValue, "two values"),
        (by("id", "isNull", 5), errors.InvalidParameterValue, "no value"),
        (by("id", "eq"), errors.InvalidParameterValue, "isNull|a text"),
        (by("id", "eq", [1]), errors.InvalidParameterValue, "a text"),
        (by("id", "eq", {"a": 1}), errors.InvalidParameterValue, "a text"),
        ({"column": "id", "op": "eq", "or": 2}, errors.InvalidParameterValue, "not a filter"),
        ("id = 5", errors.InvalidParameterValue, "not a filter"),
        ({"column": 5, "op": "eq"}, errors.InvalidParameterValue, "not a filter"),
    ],
)  # fmt: skip
def test_a_filter_that_makes_no_sense_is_refused_at_submit(
    conn: Conn, condition: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        filtered(conn, condition)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_a_literal_or_refused(conn: Conn, text: str) -> None:
    conn.execute("create table witness as select count(*) from users")
    before = conn.execute("select count(*) from users").fetchone()
    for op in ("eq", "ne", "like", "ilike"):
        select = filtered(conn, by("name", op, text))
        found = conn.execute(select.encode()).rowcount
        assert found == (2_000 if op == "ne" else 0) or text == ""
    for lists in ("in", "notIn", "between"):
        conn.execute(filtered(conn, by("name", lists, [text, text])).encode())
    for request in (
        {"source": text},
        {"columns": [text]},
        {"order_by": [text]},
        {"order_by": [f"-{text}"]},
        {"filters": Jsonb([by(text, "eq", 1)])},
        {"filters": Jsonb([by("id", text, 1)])},
    ):
        if json.dumps(text) == '""' and "source" not in request:
            continue
        with pytest.raises(psycopg.Error) as refused:
            submit(conn, **request)
        assert refused.value.sqlstate in {
            "42P01", "42703", "22023", "42602", "42601", "42P02", "0A000",
        }  # fmt: skip
    assert conn.execute("select count(*) from users").fetchone() == before


def test_a_column_may_have_any_name(conn: Conn) -> None:
    conn.execute('create table odd ("a""b" int, "Größe" text, "-x" int, "x y" date)')
    conn.execute("grant select on odd to csv_reader")
    text = submit(
        conn,
        source="odd",
        columns=['a"b', "Größe", "-x"],
        filters=Jsonb([by("x y", "gt", "2020-01-01")]),
        order_by=['-a"b', "--x"],
    )
    assert text.endswith('order by t."a""b" desc, t."-x" desc')
    conn.execute(text)


def test_views_and_partitioned_tables_are_sources(conn: Conn) -> None:
    conn.execute(
        "create view some_users as select id, name from users;"
        "create materialized view more_users as select * from users;"
        "create table parts (n int, at date) partition by range (at);"
        "create table parts_1 partition of parts for values from ('2020-01-01') to ('2021-01-01');"
        "grant select on some_users, more_users, parts to csv_reader"
    )
    for source in ("some_users", "more_users", "parts"):
        submit(conn, source=source)
    kinds = dict(conn.execute("select source, kind from sources").fetchall())
    assert kinds == {
        "users": "table",
        "some_users": "view",
        "more_users": "materialized view",
        "parts": "partitioned table",
    }


def test_sources_shows_what_was_granted_and_no_more(conn: Conn) -> None:
    conn.execute(
        "create table secret (n int); create table half (shown int not null, hidden int);"
        "comment on table half is 'the better half'; comment on column half.shown is 'look';"
        "grant select (shown) on half to csv_reader"
    )
    rows = conn.execute("select source, comment, columns from sources order by 1")
    found = {source: (comment, columns) for source, comment, columns in rows}
    assert set(found) == {"half", "users"}
    assert found["half"] == (
        "the better half",
        [{"name": "shown", "type": "integer", "nullable": False, "comment": "look"}],
    )


def test_an_indexed_column_is_filtered_by_its_index(conn: Conn) -> None:
    conn.execute(
        "create table big as select n, 'u' || n as name from generate_series(1, 50000) n;"
        "create index on big (name); analyze big; grant select on big to csv_reader"
    )
    for condition in (by("name", "eq", "u77"), by("name", "in", ["u1", "u2"])):
        text = submit(conn, source="big", filters=Jsonb([condition]))
        plan = conn.execute(f"explain (format json) {text}").fetchone()
        assert "big_name_idx" in str(plan)


@pytest.mark.parametrize(
    "options, constraint",
    [
        ({"format": "xml"}, "the_format_is_csv_tsv_or_jsonl"),
        ({"compression": "rar"}, "the_compression_is_none_gzip_or_zstd"),
        ({"profile": "word"}, "the_profile_is_excel"),
        ({"delimiter": ";;"}, "a_delimiter_is_one_plain_character"),
        ({"delimiter": '"'}, "a_delimiter_is_one_plain_character"),
        ({"delimiter": "ä"}, "a_delimiter_is_one_plain_character"),
        ({"delimiter": "\n"}, "a_delimiter_is_one_plain_character"),
        ({"null_text": "a,b"}, "the_null_text_fits_into_a_field"),
        ({"null_text": "\n"}, "the_null_text_fits_into_a_field"),
        ({"line_ending": "cr"}, "lines_end_with_lf_or_crlf"),
        ({"format": "jsonl", "delimiter": ";"}, "json_has_none_of_the_options_of_csv"),
        ({"format": "tsv", "profile": "excel"}, "only_csv_is_for_excel"),
        ({"file_name": "../x"}, "a_file_name_is_a_name"),
        ({"file_name": "a\nb"}, "a_file_name_is_a_name"),
        ({"row_limit": -1}, "a_limit_is_not_negative"),
        ({"idempotency_key": " "}, "an_idempotency_key_is_not_blank"),
        ({"source": None, "query": "select 1", "row_limit": 1},
         "filters_order_and_limit_belong_to_a_source"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(
    conn: Conn, options: dict[str, Any], constraint: str
) -> None:
    with pytest.raises(errors.CheckViolation, match=constraint):
        submit(conn, **options)


def test_a_time_zone_must_exist(conn: Conn) -> None:
    submit(conn, time_zone="Europe/Berlin")
    with pytest.raises(errors.InvalidParameterValue, match="Mars"):
        submit(conn, time_zone="Mars/Olympus")


def test_a_preview_stores_nothing(conn: Conn) -> None:
    row = conn.execute(
        "select sql_text, estimated_rows, first_rows from preview_export("
        "'users', '{id,name}', p_order_by => '{id}', p_limit => 3)"
    ).fetchone()
    assert row
    assert row[0] == "select t.id, t.name from public.users as t order by t.id limit 3"
    assert row[1] == 3
    assert [one["id"] for one in row[2]] == [1, 2, 3]
    assert conn.execute("select count(*) from exports").fetchone() == (0,)
    with pytest.raises(errors.UndefinedColumn):
        conn.execute("select preview_export('users', '{nam}')")
    conn.execute("grant usage on sequence users_id_seq to csv_reader")
    with pytest.raises(errors.ReadOnlySqlTransaction):
        conn.execute(
            "select preview_export(p_query => 'select nextval(''users_id_seq'')')"
        )


def test_an_idempotency_key_is_used_once(conn: Conn) -> None:
    submit(conn, idempotency_key="k")
    with pytest.raises(errors.UniqueViolation):
        submit(conn, idempotency_key="k")


def test_deleting_tells_which_file_is_left(conn: Conn) -> None:
    assert conn.execute("select delete_export(gen_random_uuid())").fetchone() == (None,)
    submit(conn)
    conn.execute("select claim_exports('w', '1 min')")
    (id,) = conn.execute("select id from exports").fetchone() or (None,)
    row = conn.execute("select delete_export(%s)", [id]).fetchone()
    assert row == (f"{id}-1.csv",)


def test_a_foreign_table_is_a_source(conn: Conn) -> None:
    """Its wrapper decides whether it can be read; this wrapper has no handler."""
    conn.execute(
        "create foreign data wrapper none; create server far foreign data wrapper none;"
        "create foreign table away (n int) server far; grant select on away to csv_reader"
    )
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="no handler"):
        submit(conn, source="away")
    kinds = conn.execute("select kind from sources where source = 'away'").fetchall()
    assert kinds == [("foreign table",)]
