"""Print results: facts and tables for people, JSON for programs."""

import json
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import live
from .http import Export
from .live import clean, line, size, when

WIDE = 100_000  # columns, so that nothing is cut off in a pipe
NUMBER = {"justify": "right", "min_width": 9}
SIZE = {"justify": "right", "min_width": 8}


def put_json(shown: Any) -> None:
    print(json.dumps(shown), flush=True)


def put_result(export: Export, file: str) -> None:
    """Print where the file is, and its figures.

    If the file went to standard output, print to standard error.
    """
    facts: dict[str, object] = {
        "file": file,
        "rows": f"{export.rows:,}",
        "bytes": f"{export.bytes:,}",
        "speed": f"{size(live.speed(export))}/s"
        f" ({live.duration(live.seconds(export))})",
        "sha256": export.sha256,
    }
    put_facts(facts, aside=file == "-")


def put_export(export: Export, url: object) -> None:
    """Print the details of *export*; *url* is the address of its file, if it has one."""
    shown, error = export.shown, export.error
    columns = [column.name for column in export.result_columns or []]
    compressed = export.compression if export.compression != "none" else ""
    facts = {
        "id": export.id,
        "status": live.figures(export) if not export.ended else export.status,
        "error": error and error.message,
        "hint": error and error.hint,
        "source": export.source,
        "select": shown["select"],
        "columns": ", ".join(columns),
        "format": f"{export.format} {compressed}".rstrip(),
        "rows": f"{export.rows:,}",
        "bytes": f"{export.bytes:,}",
        "speed": f"{size(live.speed(export))}/s" if export.rows else None,
        "sha256": export.sha256,
        "priority": shown["priority"],
        "attempt": f"{export.attempt} of {shown['maxAttempts']}",
        "by": shown["requestedBy"],
        "created": when(export.created_at),
        "started": when(export.started_at),
        "finished": when(export.finished_at),
        "took": live.duration(live.seconds(export)) if export.sha256 else None,
        "expires": when(export.expires_at),
        "file": url if export.sha256 else None,
    }
    put_facts(facts)


def put_preview(preview: dict[str, Any]) -> None:
    put_facts(
        {"select": preview["select"], "rows": f"about {preview['estimatedRows']:,}"}
    )
    print()
    names = [column["name"] for column in preview["columns"]]
    put_table(
        {name: {} for name in names},
        [["" if v is None else v for v in row.values()] for row in preview["rows"]],
    )


def put_exports(found: list[Export]) -> None:
    put_table(
        {
            "ID": {"min_width": 36},
            "STATUS": {"min_width": 10},
            "SOURCE": {},
            "ROWS": NUMBER,
            "SIZE": SIZE,
            "AGE": {"justify": "right", "min_width": 3},
        },
        [
            [
                export.id,
                Text(export.status, style=live.STYLES[export.status]),
                export.name,
                f"{export.rows:,}",
                size(export.bytes),
                live.age(export.created_at),
            ]
            for export in found
        ],
    )


def put_activity(found: list[dict[str, Any]]) -> None:
    put_table(
        {"AT": {}, "ACTION": {}, "WHO": {}, "FROM": {}, "EXPORT": {}, "SIZE": SIZE},
        [
            [
                when(datetime.fromisoformat(one["at"])) or "",
                one["action"],
                one["actor"] or "(a stranger)",
                one["address"] or "",
                one["export"] or "",
                "" if one["bytes"] is None else size(one["bytes"]),
            ]
            for one in found
        ],
    )


def put_sources(found: list[dict[str, Any]]) -> None:
    put_table(
        {
            "SOURCE": {},
            "KIND": {},
            "ROWS": NUMBER,
            "SIZE": SIZE,
            "COMMENT": {},
        },
        [
            [
                one["source"],
                one["kind"],
                f"{one['estimatedRows']:,}",
                size(one["bytes"]),
                one["comment"] or "",
            ]
            for one in found
        ],
    )


def put_columns(columns: list[dict[str, Any]]) -> None:
    put_table(
        {"COLUMN": {}, "TYPE": {}, "NULL": {}, "COMMENT": {}},
        [
            [
                one["name"],
                one["type"],
                "yes" if one["nullable"] else "no",
                one["comment"] or "",
            ]
            for one in columns
        ],
    )


class Lines:
    """The lines that `watch` prints if there are no moving bars: each change once."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._silent = not as_json and live.moving() and sys.stdout.isatty()
        self._told: dict[UUID, Any] = {}

    def tell(self, export: Export) -> None:
        news: Any = export.shown if self._as_json else export.status
        if self._silent or self._told.get(export.id) == news:
            return
        self._told[export.id] = None if export.ended else news
        if self._as_json:
            put_json(export.shown)
        else:
            name, figures = line(export.name), live.figures(export)
            print(f"{export.id}  {name}  {figures}", flush=True)

    def tell_deleted(self, id: UUID) -> None:
        self._told.pop(id, None)
        if self._as_json:
            put_json({"jobId": str(id), "status": "deleted"})
        elif not self._silent:
            print(f"{id}  deleted", flush=True)


def put_table(columns: dict[str, dict[str, Any]], rows: Iterable[list[Any]]) -> None:
    """Print a table; *columns* maps each heading to the layout of its column."""
    out = Console(highlight=False)
    if not out.is_terminal:
        out = Console(highlight=False, width=WIDE)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading, layout in columns.items():
        table.add_column(
            Text(line(heading)), no_wrap=True, overflow="ellipsis", **layout
        )
    for row in rows:
        table.add_row(
            *[one if isinstance(one, Text) else Text(line(one)) for one in row]
        )
    out.print(table)


def put_facts(facts: dict[str, object], *, aside: bool = False) -> None:
    """Print names and values, to standard error if *aside*; leave out empty values."""
    for name, value in facts.items():
        if value is not None and value != "":
            text = clean(value).replace("\n", "\n" + 10 * " ")
            print(f"{name:<9} {text}", file=sys.stderr if aside else None)
