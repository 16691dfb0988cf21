"""Is this text one harmless SELECT?  And the COPY that exports it.

The text is prepared *alone*, so that nothing in it can close a parenthesis of
ours, and PostgreSQL's own parser says how many statements, parameters and
columns it has.  That it only reads is the business of the role that runs it,
of its READ ONLY transaction, and of COPY, whose parentheses admit no utility
statement.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from psycopg import sql
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from . import libpq
from .libpq import Look

# What a spreadsheet may take for a formula (OWASP, CSV injection): also behind a
# tab or a line break, and with the full-width signs of Japanese.
FORMULA = r"^([=@\t\r\n\uFF1D\uFF20]|[-+\uFF0B\uFF0D].)"
NUMBER = r"^[-+]?([0-9]+([.,][0-9]+)*|[.,][0-9]+)(e[-+]?[0-9]+)? ?%?$"
# What it takes for a number, but drops zeros in front, or all but 15 digits.
DIGITS = r"^[-+]?(0[0-9]+|[0-9]{16,})([.,][0-9]+)?$"
# JSON text has no control characters, so with these nothing is ever quoted.
JSON_LINES = r"FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02', NULL E'\x03'"
CHECK_PATIENCE = 60.0  # seconds to take a text apart, locks included
LONGEST_NAME = 63  # bytes of an identifier
LONGEST_SHOWN = 1000  # characters of a value in a preview

FIRST_USER_OID = 16_384  # PostgreSQL's own types never change
_known_types: dict[tuple[int, int], "Type"] = {}

# Domains and arrays are told by what they are made of.
TYPES = """
with recursive parts (type, mod, part, next) as (
    select
        type, mod, oid,
        case when typbasetype <> 0 then typbasetype when typcategory = 'A' then typelem else 0 end
    from unnest($1::oid[], $2::int[]) as asked (type, mod)
    join pg_type on oid = type
    union all
    select
        type, mod, oid,
        case when typbasetype <> 0 then typbasetype when typcategory = 'A' then typelem else 0 end
    from parts
    join pg_type on oid = next
)
select
    type,
    mod,
    format_type(type, mod),
    whole.typcategory::text,
    whole.typcategory = 'S' and part in ('text'::regtype, 'varchar'::regtype, 'name'::regtype),
    whole.typcategory = 'N'
        and part in ('numeric'::regtype, 'float4'::regtype, 'float8'::regtype),
    part = 'json'::regtype or innermost.typtype in ('c', 'p'),
    innermost.oid >= 16384 and exists (
        select from pg_cast where castsource = part and casttarget = 'json'::regtype
    )
from parts
join pg_type as whole on whole.oid = type
join pg_type as innermost on innermost.oid = part
where next = 0
"""

CHANGED = """
select format('%I.%I', schema, name), to_regclass(quote_ident(name))::text
from json_each_text($1) as _ (name, schema)
where to_regclass(format('%I.%I', schema, name))
    is distinct from to_regclass(quote_ident(name))
"""


class NotASelect(Exception):
    """The text is no SELECT that can be exported; the message says why."""


class MeansAnother(Exception):
    """A name in the query means another relation than when it was submitted."""


@dataclass(frozen=True)
class Type:
    """What the forms of a file have to know of a column's type."""

    name: str  # as SQL writes it, with its modifier
    category: str  # pg_type.typcategory
    is_plain: bool = False  # a cast to text gives what COPY writes
    is_decimal: bool = False  # written with a decimal point
    has_json: bool = False  # is, or may contain, json: the text of somebody else
    has_json_cast: bool = False  # of its own, which may refuse values

    @property
    def is_text(self) -> bool:
        """May a value be any text?  Strings, enums, XML, "char", and unknown types."""
        return self.category in "SEUXZ"

    @property
    def has_text(self) -> bool:
        """Is it a text, or may it contain some: an array, a row, a range?"""
        return self.is_text or self.category in "ACPR"

    @property
    def has_digits(self) -> bool:
        """May a value be nothing but digits?"""
        return self.is_text or self.category in "NV"


class Column(BaseModel):
    """A column of the result, with its type as SQL writes it."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    known: Type | None = Field(default=None, exclude=True)


class Format(BaseModel):
    """What a file looks like; see the columns of the same names in `exports`."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore"
    )

    format: Literal["csv", "tsv", "jsonl"] = "csv"
    compression: Literal["none", "gzip", "zstd"] = "none"
    encoding: str = "UTF8"
    delimiter: str | None = ","
    header: bool | None = True
    null_text: str | None = ""
    quote_all: bool | None = False
    force_quote: list[str] | None = None
    line_ending: Literal["lf", "crlf"] = "lf"
    bom: bool | None = False
    formula_guard: bool | None = False
    decimal_comma: bool | None = False
    line_break_text: str | None = None
    digits_as_text: bool | None = False
    time_zone: str = "UTC"


def check(
    pgconn: PGconn,
    text: str,
    search_path: str | None = None,
    look: Look = lambda: None,
) -> list[Column]:
    """Return the columns of the SELECT *text*, having made sure that it is one.

    *search_path* is that of the session.  Raises `psycopg.Error` or `NotASelect`
    unless it may be put into a COPY.  *look* is called while it waits, and may
    raise to give up.
    """
    described = expect(
        libpq.prepare(pgconn, text.encode(), CHECK_PATIENCE, look),
        ExecStatus.COMMAND_OK,
    )
    if described.nparams:
        raise NotASelect(
            "an export takes no parameters; write the values into the query"
        )
    if not described.nfields:
        raise NotASelect("an export is a SELECT with at least one column")
    fields = range(described.nfields)
    types = [(described.ftype(n), described.fmod(n)) for n in fields]
    names = [(described.fname(n) or b"").decode() for n in fields]
    # What somebody put before pg_catalog is nothing to remember.
    found = _described(pgconn, types, "pg_catalog" not in (search_path or ""), look)
    return [
        Column(name=name, type=type.name, known=type)
        for name, type in zip(names, found, strict=True)
    ]


def check_meaning(
    pgconn: PGconn, relations: dict[str, str], look: Look = lambda: None
) -> None:
    """Raise `MeansAnother` unless names mean what they did at submit.

    *relations* has, for each name, the schema in which it was found then.
    """
    changed = libpq.query(
        pgconn, CHANGED, [json.dumps(relations)], CHECK_PATIENCE, look
    )
    for before, now in _rows(changed):
        raise MeansAnother(
            f"{before}, which the query named when it was submitted, is"
            f" {'gone' if now is None else 'another relation'} now: submit it again"
        )


def copy_command(text: str, columns: list[Column], form: Format) -> bytes:
    """Return the COPY of a checked SELECT, to be sent as one extended query.

    The line breaks keep a comment at the end of *text* from hiding ours.
    """
    if form.format == "jsonl":
        text = json_rows(text, columns)
        return f"COPY (\n{text}\n) TO STDOUT WITH ({JSON_LINES})".encode()
    names = [column.name for column in columns]
    heads = [_head(name, form) for name in names]
    inner = [f"c{n}" for n in range(len(columns))]
    shown = [_shown(column, name, form) for column, name in zip(columns, inner)]
    if shown != inner or heads != names:
        text = _renamed(text, shown, heads)
    options = (
        f"FORMAT csv, HEADER {bool(form.header)},"
        f" DELIMITER {_literal(form.delimiter)}, NULL {_literal(form.null_text)}"
    )
    if form.quote_all:
        options += ", FORCE_QUOTE *"
    elif form.force_quote:
        shown_as = dict(zip(names, heads))
        forced = (_identifier(shown_as.get(name, name)) for name in form.force_quote)
        options += f", FORCE_QUOTE ({', '.join(forced)})"
    if form.encoding not in ("UTF8", "UTF-16LE"):
        options += f", ENCODING {_literal(form.encoding)}"
    return f"COPY (\n{text}\n) TO STDOUT WITH ({options})".encode()


def json_rows(text: str, columns: list[Column]) -> str:
    """Return the SELECT of a JSON object for each row of *text*, each on one line.

    A type with a cast to JSON of its own is written as its text: such casts may
    refuse values, and write what the type cannot read.
    """
    names = unique_names(columns)
    inner = [f"c{n}" for n in range(len(columns))]
    shown = [
        _text(column, name) if column.known and column.known.has_json_cast else name
        for column, name in zip(columns, inner)
    ]
    if shown != inner or names != [column.name for column in columns]:
        text = _renamed(text, shown, names)
    row = "row_to_json(export.*)"
    if any(column.known and column.known.has_json for column in columns):
        # Line breaks can stand between the tokens only, and mean nothing there.
        row = rf"translate({row}::text, E'\n\r', '  ')"
    return f"select {row} from (\n{text}\n) as export"


def preview_rows(text: str, columns: list[Column], limit: int) -> str:
    """Return the SELECT of the first *limit* rows of *text*, as JSON objects.

    What is longer than `LONGEST_SHOWN` characters is cut, and says so.
    """
    shown = []
    for n, column in enumerate(columns):
        cell = _text(column, f"c{n}")
        size = f"case when length({cell}) > {LONGEST_SHOWN} then"
        cut = (
            f"left({cell}, {LONGEST_SHOWN})"
            f" || '... (' || length({cell}) || ' characters)'"
        )
        whole = cell if column.known and column.known.has_json_cast else f"c{n}"
        shown.append(
            f"case when pg_column_size(c{n}) > {LONGEST_SHOWN}"
            f" then to_json({size} {cut} else {cell} end) else to_json({whole}) end"
        )
    text = f"{_renamed(text, shown, unique_names(columns))} limit {limit:d}"
    return f"select row_to_json(export.*) from (\n{text}\n) as export"


def unique_names(columns: list[Column]) -> list[str]:
    """Return the names; those that others have as well are numbered: a, a_2, a_3."""
    taken = {column.name for column in columns}
    given: list[str] = []
    for column in columns:
        name, n = column.name, 1
        while name in given or n > 1 and name in taken:
            n += 1
            end = f"_{n}"
            kept = column.name.encode()[: LONGEST_NAME - len(end)]
            name = kept.decode(errors="ignore") + end
        given.append(name)
    return given


def expect(result: PGresult, status: ExecStatus) -> PGresult:
    """Return *result* if it has *status*, else raise its `psycopg.Error`."""
    if result.status == ExecStatus.FATAL_ERROR:
        raise libpq.error_of(result)
    if result.status != status:
        raise NotASelect(
            f"an export is a SELECT, but this is {ExecStatus(result.status).name}"
        )
    return result


def _described(
    pgconn: PGconn, types: list[tuple[int, int]], remember: bool, look: Look
) -> list[Type]:
    """Return what is to be known of each type."""
    found: dict[tuple[int, int], Type] = {}
    if missing := set(types) - _known_types.keys():
        asked = [f"{{{','.join(map(str, numbers))}}}" for numbers in zip(*missing)]
        result = libpq.query(pgconn, TYPES, asked, CHECK_PATIENCE, look)
        for oid, mod, name, category, *flags in _rows(result):
            key = int(oid or 0), int(mod or 0)
            found[key] = Type(name or "", category or "", *(f == "t" for f in flags))
            if key[0] < FIRST_USER_OID and remember:
                _known_types[key] = found[key]
    return [found.get(key) or _known_types[key] for key in types]


def _rows(result: PGresult) -> Iterator[list[str | None]]:
    for row in range(result.ntuples):
        values = (result.get_value(row, column) for column in range(result.nfields))
        yield [None if value is None else value.decode() for value in values]


def _renamed(text: str, shown: list[str], names: list[str]) -> str:
    """Return *text* with its columns, c0 to cN, *shown* under other *names*."""
    inner = ", ".join(f"c{n}" for n in range(len(shown)))
    outer = ", ".join(
        f"{one} as {_identifier(name)}" for one, name in zip(shown, names)
    )
    return f"select {outer} from (\n{text}\n) as export ({inner})"


def _shown(column: Column, name: str, form: Format) -> str:
    """Return the SQL of the column *name* as the file has it."""
    known = column.known
    assert known
    comma = form.decimal_comma and known.is_decimal
    breaks = form.line_break_text is not None and known.has_text
    digits = form.digits_as_text and known.has_digits
    guard = form.formula_guard and known.is_text
    if not (comma or breaks or digits or guard):
        return name
    text = _text(column, name)
    if comma:
        text = f"replace({text}, '.', ',')"
    if breaks:
        for line_break in (r"E'\r\n'", r"E'\n'", r"E'\r'"):
            text = f"replace({text}, {line_break}, {_literal(form.line_break_text)})"
    cases = ""
    if digits:
        cases += f""" when {text} ~ {_literal(DIGITS)} then '="' || {text} || '"'"""
    if guard:
        cases += (
            f" when {text} ~ {_literal(FORMULA)} and {text} !~* {_literal(NUMBER)}"
            f" then '''' || {text}"
        )
    return f"case{cases} else {text} end" if cases else text


def _head(name: str, form: Format) -> str:
    """Return the name of a column as the header has it."""
    if form.line_break_text is not None:
        name = re.sub("\r\n|\n|\r", lambda _: form.line_break_text or "", name)
    if form.formula_guard:
        if re.search(FORMULA, name, re.DOTALL) and not re.search(NUMBER, name, re.I):
            name = f"'{name}"
    return name


def _text(column: Column, name: str) -> str:
    """Return the SQL of the text that COPY writes for the column *name*.

    A cast would not do: char(n)::text has no blanks at its end, inet::text has a
    mask.  It can be compared whatever the collation of the column is.
    """
    if column.known and column.known.is_plain:
        text = f"{name}::text"
    else:
        text = f"case when {name} is distinct from null then format('%s', {name}) end"
    return f'({text} collate "C")'


def _identifier(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def _literal(text: str | None) -> str:
    return sql.Literal(text or "").as_string(None)
