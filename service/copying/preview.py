"""Fetch the first rows of a SELECT, to show them before it is exported."""

import json
import time
from typing import Any

import psycopg

from ..model import Column, Format
from ..postgres import libpq
from ..postgres.reader import Sessions
from . import command, statement

PATIENCE = 5.0  # seconds for each statement, such as finding the first rows
SILENCE = 17.0  # seconds for everything: three statements, each with that patience


def first_rows(
    sessions: Sessions,
    sql: str,
    form: Format,
    limit: int,
    search_path: str | None = None,
    settings: dict[str, str] | None = None,
) -> tuple[list[Column], list[dict[str, Any]]]:
    """Check a SELECT, and return its columns and its first rows, as JSON values.

    Duplicate names are numbered and long values cut, as in
    `command.preview_rows`.  Raises `psycopg.errors.QueryCanceled` if a statement
    takes longer than `PATIENCE`, and `psycopg.OperationalError` if the server does
    not answer.
    """
    until = time.monotonic() + SILENCE

    def look() -> None:
        if time.monotonic() > until:
            raise psycopg.OperationalError("the server does not answer")

    session = sessions.begin("preview", form.time_zone, search_path, look, settings)
    try:
        pgconn = session.conn.pgconn
        limited = "select set_config('statement_timeout', $1, true)"
        libpq.query(pgconn, limited, [f"{PATIENCE * 1000:.0f}"], SILENCE, look)
        columns = statement.check(pgconn, sql, search_path, look)
        shown = command.preview_rows(sql, columns, limit)
        # The extended protocol accepts only one statement, whatever the text is.
        result = libpq.query(pgconn, shown, [], SILENCE, look)
        rows = (result.get_value(row, 0) or b"" for row in range(result.ntuples))
        return columns, [json.loads(row) for row in rows]
    finally:
        sessions.end(session, reuse=False)
