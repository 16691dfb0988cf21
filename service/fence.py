"""Is this text one harmless SELECT?  And the COPY that exports it.

The text is prepared *alone*, so that nothing in it can close a parenthesis of
ours, and PostgreSQL's own parser says how many statements, parameters and
columns it has.  That it only reads is the business of the role that runs it,
of its READ ONLY transaction, and of COPY, whose parentheses admit no utility
statement.
"""

from typing import Annotated, Any, Literal

from psycopg import Connection, errors, sql
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

FORMULA = r"^[=+\-@\t\r]"  # how a spreadsheet's formula may begin (OWASP)
# JSON text has no control characters, so with these nothing is ever quoted.
JSON_LINES = r"FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02', NULL E'\x03'"


FIRST_USER_OID = 16_384  # PostgreSQL's own types never change
_known_types: dict[tuple[int, int], tuple[str, bool]] = {}


class NotASelect(Exception):
    """The text is no SELECT that can be exported; the message says why."""


class Column(BaseModel):
    """A column of the result, with its type as SQL writes it."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    is_text: bool = Field(default=False, exclude=True)


class Format(BaseModel):
    """What a file looks like; see the columns of the same names in `exports`."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore"
    )

    format: Literal["csv", "tsv", "jsonl"] = "csv"
    compression: Literal["none", "gzip", "zstd"] = "none"
    delimiter: str | None = ","
    header: bool | None = True
    null_text: str | None = ""
    quote_all: bool | None = False
    line_ending: Literal["lf", "crlf"] = "lf"
    bom: bool | None = False
    formula_guard: bool | None = False
    time_zone: Annotated[str, Field(max_length=64)] = "UTC"


def check(conn: Connection[Any], text: str) -> list[Column]:
    """Return the columns of the SELECT *text*, having made sure that it is one.

    Raises `psycopg.Error` or `NotASelect` unless it may be put into a COPY.
    """
    expect(conn.pgconn.prepare(b"", text.encode()), ExecStatus.COMMAND_OK)
    described = expect(conn.pgconn.describe_prepared(b""), ExecStatus.COMMAND_OK)
    if described.nparams:
        raise NotASelect(
            "an export takes no parameters; write the values into the query"
        )
    if not described.nfields:
        raise NotASelect("an export is a SELECT with at least one column")
    fields = range(described.nfields)
    types = [(described.ftype(n), described.fmod(n)) for n in fields]
    names = [(described.fname(n) or b"").decode() for n in fields]
    return [
        Column(name=name, type=type, is_text=is_text)
        for name, (type, is_text) in zip(names, _described(conn, types), strict=True)
    ]


def copy_command(text: str, columns: list[Column], form: Format) -> bytes:
    """Return the COPY of a checked SELECT, to be sent as one extended query.

    The line breaks keep a comment at the end of *text* from hiding ours.
    """
    if form.format == "jsonl":
        text = f"select row_to_json(export) from (\n{text}\n) as export"
        options = JSON_LINES
    else:
        if form.formula_guard:
            text = _guarded(text, columns)
        options = (
            f"FORMAT csv, HEADER {bool(form.header)},"
            f" DELIMITER {_literal(form.delimiter)}, NULL {_literal(form.null_text)}"
        )
        if form.quote_all:
            options += ", FORCE_QUOTE *"
    return f"COPY (\n{text}\n) TO STDOUT WITH ({options})".encode()


def expect(result: PGresult, status: ExecStatus) -> PGresult:
    """Return *result* if it has *status*, else raise its `psycopg.Error`."""
    if result.status == ExecStatus.FATAL_ERROR:
        raise errors.error_from_result(result)
    if result.status != status:
        raise NotASelect(
            f"an export is a SELECT, but this is {ExecStatus(result.status).name}"
        )
    return result


def _described(
    conn: Connection[Any], types: list[tuple[int, int]]
) -> list[tuple[str, bool]]:
    """Return how SQL writes each type, and whether it is a text."""
    if missing := set(types) - _known_types.keys():
        oids, mods = zip(*missing)
        found = conn.execute(
            "select type, mod, format_type(type, mod), typcategory = 'S'"
            " from unnest(%s::oid[], %s::int[]) as f (type, mod)"
            " join pg_type on pg_type.oid = type",
            [list(oids), list(mods)],
        ).fetchall()
        described = {(oid, mod): (name, is_text) for oid, mod, name, is_text in found}
        _known_types.update(
            {key: told for key, told in described.items() if key[0] < FIRST_USER_OID}
        )
        return [described.get(key) or _known_types[key] for key in types]
    return [_known_types[key] for key in types]


def _guarded(text: str, columns: list[Column]) -> str:
    """Put an apostrophe before what a spreadsheet would calculate, in texts alone."""
    names = [f"c{n}" for n in range(len(columns))]
    shown = []
    for name, column in zip(names, columns):
        value = name
        if column.is_text:
            formula = f"{name} ~ {_literal(FORMULA)}"
            value = f"case when {formula} then '''' || {name} else {name} end"
        shown.append(f"{value} as {sql.Identifier(column.name).as_string(None)}")
    return f"select {', '.join(shown)} from (\n{text}\n) as export ({', '.join(names)})"


def _literal(text: str | None) -> str:
    return sql.Literal(text or "").as_string(None)
