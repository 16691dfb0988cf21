"""Forty types, in files of every form, are read back without any change.

`FORMS` has a line for each set of options.  Values are compared as the texts that
PostgreSQL writes, which is stricter than its `=`, and also works for types
that have no `=`.
"""

import asyncio
import csv
import gzip
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pandas
import pytest
import zstandard
from psycopg import Connection, sql

from ..conftest import Service

FORTY_TYPES = Path(__file__).parent.parent / "corpus" / "forty_types.sql"
SOURCES = ("forty_types", "app.orders", "app.lines")


@dataclass(frozen=True)
class Form:
    """Options of a request, and what else a reader of the file must know.

    *shown* takes a type and a value as PostgreSQL writes it, and returns the value
    in the file.  With *shown*, COPY FROM cannot restore the values.
    """

    request: dict[str, Any] = field(default_factory=dict)
    encoding: str = "utf-8"
    shown: Callable[[str, str], str] | None = None

    @property
    def delimiter(self) -> str:
        given: str = self.request.get(
            "delimiter", "\t" if self.request.get("format") == "tsv" else ","
        )
        return given

    @property
    def header(self) -> bool:
        return bool(self.request.get("header", True))

    @property
    def null_text(self) -> str:
        return str(self.request.get("nullText", ""))

    @property
    def line_end(self) -> str:
        return "\r\n" if self.request.get("lineEnding") == "crlf" else "\n"

    @property
    def time_zone(self) -> str:
        return str(self.request.get("timeZone", "UTC"))


def comma(type: str, text: str) -> str:
    decimal = ("numeric", "real", "double precision")
    return text.replace(".", ",") if type in decimal else text


def digits(_type: str, text: str) -> str:
    kept = re.fullmatch(r"[-+]?(0[0-9]+|[0-9]{16,})([.,][0-9]+)?", text)
    return f'="{text}"' if kept else text


FORMS = {
    "plain": Form(),
    "quote all": Form({"quoteAll": True}),
    "null text": Form({"nullText": "NULL"}),
    "null text, quote all": Form({"nullText": "\\N", "quoteAll": True}),
    "null text with percent signs": Form({"nullText": "%s %"}),
    "semicolon": Form({"delimiter": ";"}),
    "bar": Form({"delimiter": "|"}),
    "apostrophe": Form({"delimiter": "'"}),
    "no header": Form({"header": False}),
    "tsv": Form({"format": "tsv"}),
    "tsv, no header, null text": Form(
        {"format": "tsv", "header": False, "nullText": "nil"}
    ),
    "crlf": Form({"lineEnding": "crlf"}),
    "crlf, quote all": Form({"lineEnding": "crlf", "quoteAll": True}),
    "bom": Form({"bom": True}, encoding="utf-8-sig"),
    "bom, crlf, semicolon": Form(
        {"bom": True, "lineEnding": "crlf", "delimiter": ";"}, encoding="utf-8-sig"
    ),
    "gzip": Form({"compression": "gzip"}),
    "zstd": Form({"compression": "zstd"}),
    "tsv, crlf, zstd": Form(
        {"format": "tsv", "lineEnding": "crlf", "compression": "zstd"}
    ),
    "UTF-16": Form({"encoding": "UTF-16LE"}, encoding="utf-16"),
    "UTF-16, no header, gzip": Form(
        {"encoding": "UTF-16LE", "header": False, "compression": "gzip"},
        encoding="utf-16",
    ),
    "decimal comma": Form({"decimalComma": True, "delimiter": ";"}, shown=comma),
    "digits as text": Form({"digitsAsText": True}, shown=digits),
    "time zone": Form({"timeZone": "Asia/Kolkata"}),
    "time zone with summer time": Form({"timeZone": "Europe/Berlin"}),
}
JSON_FORMS = {
    "lines": Form({"format": "jsonl"}),
    "gzip": Form({"format": "jsonl", "compression": "gzip"}),
    "zstd": Form({"format": "jsonl", "compression": "zstd"}),
    "crlf": Form({"format": "jsonl", "lineEnding": "crlf"}),
    "time zone": Form({"format": "jsonl", "timeZone": "Asia/Kolkata"}),
}


@pytest.fixture
def tables(conn: Connection[Any]) -> Connection[Any]:
    """The tables of `forty_types.sql`, over the connection of a superuser."""
    conn.execute(FORTY_TYPES.read_bytes())
    conn.execute("set timezone to 'UTC'; set datestyle to 'ISO'")
    return conn


async def exported(
    service: Service, forms: dict[str, Form]
) -> list[tuple[str, str, Form, str]]:
    """Export every table in every form; return source, name, form and text."""

    at_once = asyncio.Semaphore(8)  # more would wait in vain on a slow machine

    async def export(source: str, name: str, form: Form) -> tuple[str, str, Form, str]:
        async with at_once:
            export = await service.export(source=source, **form.request)
        export = await service.ended(export["jobId"])
        assert export["status"] == "completed", (source, name, export["error"])
        url = f"/exports/{export['jobId']}/download"
        async with service.http.get(url) as answer:
            body = await answer.read()
        match form.request.get("compression"):
            case "gzip":
                body = gzip.decompress(body)
            case "zstd":
                body = zstandard.ZstdDecompressor().stream_reader(body).read()
        return source, name, form, body.decode(form.encoding)

    return await asyncio.gather(
        *(
            export(source, name, form)
            for source in SOURCES
            for name, form in forms.items()
        )
    )


def columns(conn: Connection[Any], source: str) -> list[tuple[str, str]]:
    """Return name and type of each column."""
    return conn.execute(
        "select attname, format_type(atttypid, null) from pg_attribute"
        " where attrelid = %s::regclass and attnum > 0 order by attnum",
        [source],
    ).fetchall()


def selected(
    conn: Connection[Any], source: str, form: Form
) -> tuple[list[str], list[list[str | None]]]:
    """Return the header, and each value as the file should have it (None: NULL)."""
    named = columns(conn, source)
    texts = sql.SQL(", ").join(
        # As COPY writes it: a cast to text would give "true" and drop blanks.
        sql.SQL(
            "case when {0} is distinct from null then format('%s', {0}) end"
        ).format(sql.Identifier(name))
        for name, _ in named
    )
    with conn.transaction():
        conn.execute("select set_config('timezone', %s, true)", [form.time_zone])
        rows = conn.execute(
            sql.SQL("select {} from {}").format(texts, sql.SQL(source))
        ).fetchall()
    show = form.shown or (lambda _type, text: text)
    return [name for name, _ in named], [
        [
            None if value is None else show(type, value)
            for value, (_, type) in zip(row, named)
        ]
        for row in rows
    ]


def put_back(conn: Connection[Any], source: str, text: str, form: Form) -> None:
    """COPY the text into `back`, a new and empty copy of the table."""
    new_copy(conn, source)
    copy = sql.SQL(
        "copy back from stdin with (format csv, header {}, delimiter {}, null {})"
    ).format(form.header, form.delimiter, form.null_text)
    with conn.cursor().copy(copy) as writing:
        writing.write(text.encode())


def new_copy(conn: Connection[Any], source: str) -> None:
    conn.execute("drop table if exists back")
    conn.execute(sql.SQL("create table back (like {})").format(sql.SQL(source)))


def differences(
    conn: Connection[Any], source: str, as_text: Callable[[str], str]
) -> list[Any]:
    """Return the rows that only one of the two tables has."""
    texts = sql.SQL(", ").join(
        sql.SQL(as_text(type)).format(sql.Identifier(name))
        for name, type in columns(conn, source)
    )
    one = sql.SQL("select {} from {}").format(texts, sql.SQL(source))
    other = sql.SQL("select {} from back").format(texts)
    both = sql.SQL("({0} except all {1}) union all ({1} except all {0})")
    return conn.execute(both.format(one, other)).fetchall()


async def test_copy_from_brings_every_form_back(
    service: Service, tables: Connection[Any]
) -> None:
    forms = {name: form for name, form in FORMS.items() if not form.shown}
    for source, name, form, text in await exported(service, forms):
        put_back(tables, source, text, form)
        left = differences(tables, source, lambda type: "{}::text")
        assert not left, (source, name)


async def test_json_lines_populate_the_table_again(
    service: Service, tables: Connection[Any]
) -> None:
    # JSON arrays have no bounds, and SQL's NULL and JSON's null are both null.
    tables.execute("update forty_types set c_integers = '{7,8,9}' where id = 3")
    tables.execute(
        "update forty_types set c_json = '{}', c_jsonb = '{}' where c_jsonb = 'null'"
    )
    for source, name, form, text in await exported(service, JSON_FORMS):
        new_copy(tables, source)
        lines = text.split(form.line_end)
        assert lines.pop() == ""
        for line in lines:
            tables.execute(
                "insert into back select * from json_populate_record(null::back, %s)",
                [line],
            )
        left = differences(
            tables,
            source,  # a json column may be written with other blanks
            lambda type: "{}::jsonb::text" if type == "json" else "{}::text",
        )
        assert not left, (source, name)


@pytest.mark.newest
async def test_python_reads_what_psql_shows(
    service: Service, tables: Connection[Any]
) -> None:
    for source, name, form, text in await exported(service, FORMS):
        header, rows = selected(tables, source, form)
        read = list(
            csv.reader(
                io.StringIO(text, newline=""), delimiter=form.delimiter, strict=True
            )
        )
        if form.header:
            assert read.pop(0) == header, (source, name)
        assert read == with_null_texts(rows, form), (source, name)


@pytest.mark.newest
async def test_pandas_reads_what_psql_shows(
    service: Service, tables: Connection[Any]
) -> None:
    for source, name, form, text in await exported(service, FORMS):
        header, rows = selected(tables, source, form)
        frame = pandas.read_csv(
            io.StringIO(text, newline=""),
            sep=form.delimiter,
            header=0 if form.header else None,
            dtype=str,
            keep_default_na=False,
        )
        if form.header:
            assert list(frame.columns) == header, (source, name)
        assert frame.values.tolist() == with_null_texts(rows, form), (source, name)


@pytest.mark.newest
async def test_duckdb_reads_what_psql_shows(
    service: Service, tables: Connection[Any], tmp_path: Path
) -> None:
    """Quotes distinguish empty texts from NULLs, and DuckDB respects them."""
    path = tmp_path / "table.csv"
    for source, name, form, text in await exported(service, FORMS):
        header, rows = selected(tables, source, form)
        path.write_text(text, newline="", encoding="utf-8")
        relation = duckdb.read_csv(
            path,
            columns={name: "varchar" for name in header},
            header=form.header,
            sep=form.delimiter,
            quotechar='"',
            escapechar='"',
            na_values=form.null_text,
            allow_quoted_nulls=False,
            auto_detect=False,
            parallel=False,
            lineterminator="\\r\\n" if form.line_end == "\r\n" else "\\n",
        )
        read = [list(row) for row in relation.fetchall()]
        assert read == rows, (source, name)


def with_null_texts(rows: list[list[str | None]], form: Form) -> list[list[str]]:
    return [
        [form.null_text if value is None else value for value in row] for row in rows
    ]
