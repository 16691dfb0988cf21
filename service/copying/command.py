"""Build the COPY command of a checked SELECT in its format, and a preview's query."""

import re

from psycopg import sql

from ..model import Column, Format

# Text that a spreadsheet may take for a formula (OWASP, CSV injection), also after
# a tab or a line break, and also with the full-width signs used in Japanese.
FORMULA = r"^([=@\t\r\n\uFF1D\uFF20]|[-+\uFF0B\uFF0D].)"
NUMBER = r"^[-+]?([0-9]+([.,][0-9]+)*|[.,][0-9]+)(e[-+]?[0-9]+)? ?%?$"
# Digits that a spreadsheet takes for a number, and then drops the leading zeros or
# all digits after the 15th.
DIGITS = r"^[-+]?(0[0-9]+|[0-9]{16,})([.,][0-9]+)?$"
# JSON text contains no control characters, so with these options COPY never quotes.
JSON_LINES = r"FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02', NULL E'\x03'"
LONGEST_NAME = 63  # bytes of a PostgreSQL identifier
LONGEST_SHOWN = 1000  # characters of a value in a preview


def copy_command(text: str, columns: list[Column], form: Format) -> bytes:
    """Return the COPY of a checked SELECT, to be sent as one extended query.

    *text* stands on lines of its own, because it may end with a comment, which
    would otherwise hide the closing parenthesis.
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
        forced = [shown_as.get(name, name) for name in form.force_quote]
        if any(heads.count(name) > 1 for name in forced):
            options += ", FORCE_QUOTE *"  # COPY would quote the first of that name only
        else:
            options += f", FORCE_QUOTE ({', '.join(map(_identifier, forced))})"
    if form.encoding not in ("UTF8", "UTF-16LE"):
        options += f", ENCODING {_literal(form.encoding)}"
    return f"COPY (\n{text}\n) TO STDOUT WITH ({options})".encode()


def json_rows(text: str, columns: list[Column]) -> str:
    """Return a SELECT that gives each row of *text* as a JSON object on one line.

    A value whose type has its own cast to JSON is written as its text instead:
    such a cast may refuse values, or write something that the type cannot read.
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
        # JSON has line breaks only between tokens, where a space means the same.
        row = rf"translate({row}::text, E'\n\r', '  ')"
    return f"select {row} from (\n{text}\n) as export"


def preview_rows(text: str, columns: list[Column], limit: int) -> str:
    """Return a SELECT that gives the first *limit* rows of *text* as JSON objects.

    A value of more than `LONGEST_SHOWN` characters is cut, and its length added.
    """
    shown = []
    for n, column in enumerate(columns):
        cell = _text(column, f"c{n}")
        cut = (
            f"left({cell}, {LONGEST_SHOWN})"
            f" || '... (' || length({cell}) || ' characters)'"
        )
        whole = cell if column.known and column.known.has_json_cast else f"c{n}"
        shown.append(
            f"case when length({cell}) > {LONGEST_SHOWN}"
            f" then to_json({cut}) else to_json({whole}) end"
        )
    text = f"{_renamed(text, shown, unique_names(columns))} limit {limit:d}"
    return f"select row_to_json(export.*) from (\n{text}\n) as export"


def unique_names(columns: list[Column]) -> list[str]:
    """Return the names of the columns, with duplicates numbered: a, a_2, a_3."""
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


def _renamed(text: str, shown: list[str], names: list[str]) -> str:
    """Return a SELECT of the expressions *shown*, under *names*, from the query *text*.

    The expressions refer to the columns of *text* as c0 to cN.
    """
    inner = ", ".join(f"c{n}" for n in range(len(shown)))
    outer = ", ".join(
        f"{one} as {_identifier(name)}" for one, name in zip(shown, names)
    )
    return f"select {outer} from (\n{text}\n) as export ({inner})"


def _shown(column: Column, name: str, form: Format) -> str:
    """Return the SQL expression for the column *name* as it is written to the file."""
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
    """Return the name of a column as it is written to the header.

    It is an identifier of SQL: not empty, and `LONGEST_NAME` bytes at most.
    """
    if form.line_break_text is not None:
        name = re.sub("\r\n|\n|\r", lambda _: form.line_break_text or "", name)
    if form.formula_guard:
        if re.search(FORMULA, name, re.DOTALL) and not re.search(NUMBER, name, re.I):
            name = f"'{name}"
    return name.encode()[:LONGEST_NAME].decode(errors="ignore") or " "


def _text(column: Column, name: str) -> str:
    """Return the SQL expression for the text that COPY writes for the column *name*.

    A cast can give another text: char(n)::text drops trailing blanks, inet::text
    adds the mask.  The collation "C" allows all comparisons, which the column's
    own collation may not.
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
