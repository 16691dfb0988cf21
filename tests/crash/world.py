"""A database, a folder, some worker processes, and the invariants in the end."""

import hashlib
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from ..conftest import psql_copy
from ..processes import Process

PATIENCE = 40.0  # seconds to wait for an event before the test fails
QUICK = {"lease": 1, "heartbeat": 0.2, "poll_interval": 0.5, "drain_timeout": 0}
SLOW = "select n, pg_sleep(0.002)::text as nap from generate_series(1, 1000) as n"
LARGE = "select n, md5(n::text) from generate_series(1, 300000) as n"

_expected: dict[str, bytes] = {}


class World:
    def __init__(self, database: str, exports_dir: Path) -> None:
        self.database = database
        self.exports_dir = exports_dir
        self._stack = ExitStack()

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, *arguments: str, **settings: Any) -> Process:
        """Run `csv-export …` until the world ends; return once it is ready."""
        process = self._stack.enter_context(
            Process(
                settings.pop("database", self.database),
                self.exports_dir,
                *(arguments or ("worker",)),
                **QUICK | settings,
            )
        )
        if "serve" not in arguments:  # for `serve`, `Process.url` waits
            process.until("working")
        return process

    def rows(self, statement: Any, *params: object) -> list[dict[str, Any]]:
        with psycopg.connect(
            self.database, autocommit=True, row_factory=dict_row
        ) as conn:
            return conn.execute(statement, params or None).fetchall()

    def submit(self, *queries: str, **columns: Any) -> list[str]:
        names = ["query", *columns]
        marks = ", ".join(["%s"] * len(names))
        return [
            str(
                self.rows(
                    f"insert into exports ({', '.join(names)}) values ({marks})"
                    " returning id",
                    query,
                    *columns.values(),
                )[0]["id"]
            )
            for query in queries
        ]

    def submit_for(self, requester: str, *queries: str) -> None:
        for query in queries:
            self.rows(
                "with who as materialized"
                " (select set_config('exports.requester', %s, true))"
                " insert into exports (query) select %s from who returning id",
                requester,
                query,
            )

    def limit(self, requester: str, max_running: int | None) -> None:
        self.rows(
            "insert into requesters (name, max_running) values (%s, %s) returning name",
            requester,
            max_running,
        )

    def until(self, condition: str, *params: object) -> dict[str, Any]:
        """Wait until the query *condition* finds a row; return it."""
        return eventually(lambda: self.rows(condition, *params), condition)[0]

    def until_copying(self, id: str) -> dict[str, Any]:
        """Wait until the export has copied some rows; return its row in live_exports."""
        return self.until(
            "select * from live_exports where id = %s and status = 'processing'"
            " and rows > 100",
            id,
        )

    def hurry(self) -> None:
        """End all pauses between attempts."""
        self.rows(
            "update exports set run_at = now()"
            " where status = 'pending' and run_at > now() returning id"
        )

    def settle(self) -> None:
        """Wait until every export has ended."""

        def settled() -> bool:
            self.hurry()
            return not self.rows(
                "select from exports where status in ('pending', 'processing')"
            )

        eventually(settled, "exports to end")

    def statuses(self) -> dict[str, int]:
        found = self.rows("select status, count(*) from exports group by 1")
        return {row["status"]: row["count"] for row in found}

    def check(self) -> None:
        """Assert the invariants; see `invariants`."""
        invariants(self.rows, self.database, self.exports_dir)


def invariants(
    rows: Callable[..., list[dict[str, Any]]], database: str, exports_dir: Path
) -> None:
    """Assert that nothing was lost, and that nothing wrong is served.

    Every export has a file with the bytes that psql copies, or the reason why not.
    No attempt overlaps the next one, and no more run at once than their requester may.
    There is no partial, no file that no export
    refers to, and no COPY without its worker.
    """
    limits_hold(rows)
    for export in rows("select * from exports"):
        attempts_follow_each_other(export)
        match export["status"]:
            case "completed":
                path = exports_dir / export["file_path"]
                content = path.read_bytes()
                assert content == expected(database, export["sql_text"]), path
                assert export["bytes"] == len(content)
                assert export["sha256"] == hashlib.sha256(content).hexdigest()
            case "failed":
                assert export["error"]["message"]
            case "pending":
                assert export["attempt"] == 0 or export["history"]
    if not rows("select from exports where status = 'processing'"):
        eventually(
            lambda: not list(exports_dir.glob(".*.partial")), "the partials to go"
        )
        eventually(
            lambda: {path.name for path in exports_dir.iterdir()}
            == {
                row["file_path"]
                for row in rows(
                    "select * from exports where status = 'completed'"
                    " and (expires_at > now()) is not false"
                )
            },
            "the debris to go",
        )
        eventually(
            lambda: not rows(
                "select from pg_stat_activity where usename = 'csv_reader'"
                " and state <> 'idle'"
                " and datname = current_database()"
            ),
            "the server's COPYs to end",
        )


def limits_hold(rows: Callable[..., list[dict[str, Any]]]) -> None:
    """Assert that at no instant more ran than max_running of their requester."""
    for limited in rows(
        "select name, max_running from requesters where max_running is not null"
    ):
        attempts = rows(
            "select (one ->> 'startedAt')::timestamptz as start,"
            " (one ->> 'endedAt')::timestamptz as end"
            " from exports, jsonb_array_elements(history) as one where requested_by = %s"
            " union all select started_at, '9999-12-30'::timestamptz from exports"
            " where requested_by = %s and status = 'processing'",
            limited["name"],
            limited["name"],
        )
        changes = [(one["start"], 1) for one in attempts]
        changes += [(one["end"], -1) for one in attempts]
        running = 0
        for at, change in sorted(changes):
            running += change
            assert running <= limited["max_running"], (limited, at)


def attempts_follow_each_other(export: dict[str, Any]) -> None:
    history = export["history"]
    ended = [one["attempt"] for one in history]
    running = export["status"] == "processing"
    assert ended == [*range(1, export["attempt"] + 1 - running)], history
    for before, after in zip(history, history[1:]):
        assert before["endedAt"] <= after["startedAt"], history
    outcomes = [one["outcome"] for one in history]
    assert outcomes.count("completed") == (export["status"] == "completed"), history


def expected(database: str, select: str) -> bytes:
    """Return what psql copies; these SELECTs have the same result in all tests."""
    if select not in _expected:
        with tempfile.TemporaryDirectory() as folder:
            _expected[select] = psql_copy(database, select, Path(folder) / "csv")
    return _expected[select]


def eventually(look: Callable[[], Any], what: str) -> Any:
    """Return the first true answer of *look*, which reads real state."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
    return found
