"""Files in every format, read by other programs: the values are those of psql."""

import asyncio
import csv
import gzip
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from psycopg import Connection, sql

from service.copying.copy import Copy
from service.model import Format
from service.postgres.reader import Sessions

from ..conftest import Service

TYPES = {
    "int": st.integers(-(2**31), 2**31 - 1),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False, places=3,
                           min_value=-10**9, max_value=10**9),
    "text": st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    "boolean": st.booleans(),
    "date": st.dates() | st.sampled_from(["infinity", "-infinity"]),
    "timestamptz": st.datetimes(timezones=st.timezones()).map(str)
    | st.sampled_from(["infinity"]),
    "bytea": st.binary(max_size=20),
    "jsonb": st.dictionaries(st.text("ab\"'\n,\\"), st.integers() | st.text("x,\"\n"), max_size=3)
    .map(json.dumps),
    "text[]": st.lists(st.text("a,\"{}\\ \n") | st.none(), max_size=3),
    "uuid": st.uuids(),
}  # fmt: skip
AWKWARD = st.sampled_from(
    ["", ",", '"', "\n", "\r\n", "\\.", " x ", "=1+1", "NULL", "é😀", "a\tb", ";|"]
)
FORMS = st.builds(
    Format,
    format=st.sampled_from(["csv", "tsv"]),
    compression=st.sampled_from(["none", "gzip", "zstd"]),
    delimiter=st.sampled_from([",", "\t", ";", "|", "^", "'"]),
    header=st.booleans(),
    null_text=st.sampled_from(["", "NULL", "\\N", "nil"]),
    quote_all=st.booleans(),
    line_ending=st.sampled_from(["lf", "crlf"]),
    bom=st.booleans(),
    time_zone=st.sampled_from(["UTC", "Asia/Kolkata"]),
)


@st.composite
def tables(
    draw: Any, min_columns: int = 1
) -> tuple[list[tuple[str, str]], list[list[Any]]]:
    """Columns with awkward names and random types, and some rows for them."""
    names = st.text(
        st.characters(exclude_characters="\x00", exclude_categories=["Cs"]),
        min_size=1,
        max_size=8,
    )
    columns = [
        (name, draw(st.sampled_from(sorted(TYPES))))
        for name in draw(st.lists(names, min_size=min_columns, max_size=4, unique=True))
    ]
    cells = [
        st.none() | TYPES[kind] | (AWKWARD if kind == "text" else st.nothing())
        for _, kind in columns
    ]
    return columns, draw(st.lists(st.tuples(*cells).map(list), max_size=5))


def fill(conn: Connection[Any], table: Any) -> None:
    columns, rows = table
    conn.execute("drop table if exists random")
    conn.execute(
        sql.SQL("create table random ({})").format(
            sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))
                for name, kind in columns
            )
        )
    )
    for row in rows:
        marks = sql.SQL(", ").join(
            sql.SQL("({})::{}").format(sql.Literal(value), sql.SQL(kind))
            for value, (_, kind) in zip(row, columns)
        )
        conn.execute(sql.SQL("insert into random values ({})").format(marks))
    conn.execute("grant select on random to csv_reader")


def copied(database: str, form: Format, select: str = "select * from random") -> bytes:
    written = bytearray()
    Copy(Sessions(database), "test", select, form).run(written.extend)
    match form.compression:
        case "gzip":
            return gzip.decompress(written)
        case "zstd":
            return zstandard.ZstdDecompressor().decompressobj().decompress(written)
    return bytes(written)


def selected(conn: Connection[Any], time_zone: str) -> list[list[str | None]]:
    """Return each value as psql shows it, which is as PostgreSQL writes it."""
    with conn.transaction():
        conn.execute("select set_config('timezone', %s, true)", [time_zone])
        cursor = conn.execute("select random::text from random limit 0")
        names = [row[0] for row in conn.execute(
            "select attname from pg_attribute where attrelid = 'random'::regclass"
            " and attnum > 0 order by attnum")]  # fmt: skip
        texts = sql.SQL(", ").join(
            # as COPY writes it; a cast to text would say "true"
            sql.SQL(
                "format('%s', {0}) || case when {0} is null then null else '' end"
            ).format(sql.Identifier(name))
            for name in names
        )
        cursor = conn.execute(sql.SQL("select {} from random").format(texts))
        return [list(row) for row in cursor]


COMMON = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.newest
def test_any_table_in_any_form_reads_back(database: str, conn: Any) -> None:
    @COMMON
    @given(tables(), FORMS)
    def reads_back(table: Any, form: Format) -> None:
        fill(conn, table)
        body = copied(database, form)
        assert body.startswith(b"\xef\xbb\xbf") == form.bom or not form.bom
        text = body.decode("utf-8-sig" if form.bom else "utf-8")
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=form.delimiter or "", strict=True
        )
        records = list(reader)
        names = [name for name, _ in table[0]]
        if form.header:
            assert records.pop(0) == names
        ends = "\r\n" if form.line_ending == "crlf" else "\n"
        assert not text or text.endswith(ends)
        expected = [
            [form.null_text if value is None else value for value in row]
            for row in selected(conn, form.time_zone)
        ]
        if len(names) == 1:  # Python's reader ignores empty lines
            records = [record for record in records if any(record)]
            expected = [row for row in expected if any(row)]
        assert records == expected

    reads_back()


@pytest.mark.newest
def test_null_and_empty_text_stay_apart(database: str, conn: Any) -> None:
    """Quotes distinguish them for DuckDB; other readers of CSV need a null text."""
    fill(conn, ([("a", "text"), ("b", "text")], [["", None], [None, ""], ["x", "y"]]))
    for form in (
        Format(),
        Format(format="tsv", delimiter="\t"),
        Format(quote_all=True),
    ):
        body = copied(database, form)
        (lines,) = [body.decode().split("\n")[1:4]]
        separator = form.delimiter or ""
        assert lines[0] == f'""{separator}' and lines[1] == f'{separator}""'
    lines = copied(database, Format(null_text="NULL")).decode().split("\n")
    assert lines[1:3] == [",NULL", "NULL,"]


@pytest.mark.newest
def test_json_lines_read_back(database: str, conn: Any, tmp_path: Path) -> None:
    form = Format(
        format="jsonl", delimiter=None, header=None, null_text=None, quote_all=None,
        bom=None, formula_guard=None,
    )  # fmt: skip

    @COMMON
    @given(tables())
    def reads_back(table: Any) -> None:
        fill(conn, table)
        lines = copied(database, form).decode().split("\n")
        assert lines.pop() == ""
        expected = conn.execute("select to_jsonb(random) from random").fetchall()
        assert [json.loads(line) for line in lines] == [row for (row,) in expected]

    reads_back()


@pytest.mark.newest
def test_duckdb_tells_nulls_from_empty_texts(
    database: str, conn: Any, tmp_path: Path
) -> None:
    """DuckDB takes quoted values for texts, so it loses nothing; Python's csv does."""
    path = tmp_path / "random.csv"

    @COMMON
    @given(tables(min_columns=2), FORMS)
    def reads_back(table: Any, form: Format) -> None:
        # DuckDB 2.0 misreads a line break in the first name after a byte order mark.
        first_name = table[0][0][0]
        assume(not (form.bom and form.header and {"\n", "\r"} & set(first_name)))
        fill(conn, table)
        path.write_bytes(copied(database, form))
        columns = {f"c{n}": "varchar" for n in range(len(table[0]))}
        read = duckdb.read_csv(
            path,
            columns=columns,
            header=bool(form.header),
            sep=form.delimiter,
            quotechar='"',
            escapechar='"',
            na_values=form.null_text,
            allow_quoted_nulls=False,
            auto_detect=False,
            parallel=False,
            lineterminator="\\r\\n" if form.line_ending == "crlf" else "\\n",
        ).fetchall()
        assert [list(row) for row in read] == selected(conn, form.time_zone)

    reads_back()


FORMULAS = (
    "select 1 as id, '=cmd|''/c calc''!A1' as text, -5 as number, '-5' as minus,"
    " '+1 234' as phone, '@x' as at, date '2020-01-02' as day, 'Zoë ☃' as name,"
    " e'two\\nlines' as lines, '0012' as code"
)


@pytest.mark.newest
def test_a_formula_guard_touches_texts_alone(database: str) -> None:
    body = copied(database, Format(formula_guard=True, header=False), FORMULAS)
    (row,) = csv.reader(io.StringIO(body.decode(), newline=""))
    assert row == [
        "1", "'=cmd|'/c calc'!A1", "-5", "-5", "'+1 234", "'@x", "2020-01-02",
        "Zoë ☃", "two\nlines", "0012",
    ]  # fmt: skip


@pytest.mark.newest
async def test_libreoffice_shows_the_right_cells(
    service: Service, tmp_path: Path
) -> None:
    """LibreOffice opens and saves the file, as a user would."""
    office = shutil.which("soffice")
    assert office, "install libreoffice-calc-nogui"
    export = await service.export(query=FORMULAS, profile="excel")
    export = await service.ended(export["jobId"])
    assert (export["bom"], export["lineEnding"], export["formulaGuard"]) == (
        True,
        "crlf",
        True,
    )
    async with service.http.get(f"/exports/{export['jobId']}/download") as answer:
        (tmp_path / "in.csv").write_bytes(await answer.read())
    await asyncio.to_thread(
        subprocess.run,
        [
            office,
            f"-env:UserInstallation=file://{tmp_path}/profile",
            "--headless",
            # comma, double quote, UTF-8, from line 1; out: as shown
            "--infilter=CSV:44,34,76,1",
            "--convert-to",
            "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false",
            "--outdir",
            str(tmp_path / "out"),
            str(tmp_path / "in.csv"),
        ],
        check=True,
        capture_output=True,
        timeout=100,
    )
    shown = (tmp_path / "out" / "in.csv").read_text(encoding="utf-8-sig")
    header, row = csv.reader(io.StringIO(shown, newline=""))
    assert header[:3] == ["id", "text", "number"]
    cells = dict(zip(header, row))
    assert cells["text"].endswith("=cmd|'/c calc'!A1")
    assert cells["number"] == "-5"
    assert cells["name"] == "Zoë ☃"
    assert cells["lines"] == "two\nlines"
    assert "#" not in "".join(row)  # no error of a formula
