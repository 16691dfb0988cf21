"""Upgrade a database of an earlier version, with exports of every status."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from service.postgres import embedded, schema

# Dumps of databases as they were after these migrations.
DUMPS = sorted((Path(__file__).parent / "data").glob("schema-*.sql"))


@pytest.fixture(params=DUMPS, ids=lambda path: path.stem)
def earlier(server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"upgraded_{request.param.stem[-4:]}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(f"create database {name}")
        url = make_conninfo(server, dbname=name)
        psql = max(embedded.find_binaries().items())[1] / "psql"
        command = [psql, "-Xqd", url, "-v", "ON_ERROR_STOP=1", "-f", request.param]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        yield url
        conn.execute(f"drop database {name} with (force)")


def test_an_upgrade_keeps_every_export(earlier: str) -> None:
    kept = "id, status, source, query, format, attempt, rows, sha256, error, history"

    def rows(conn: psycopg.Connection[Any]) -> list[Any]:
        return conn.execute(f"select {kept} from exports order by id").fetchall()

    with psycopg.connect(earlier, autocommit=True) as conn:
        conn.execute(
            "do $$ begin create role reporter; exception when duplicate_object then null; end $$"
        )
        conn.execute("grant select on live_exports to reporter")
        conn.execute("create view report as select status, rows from live_exports")
        before = rows(conn)
        assert {row[1] for row in before} == {
            "pending", "processing", "completed", "failed", "cancelled",
        }  # fmt: skip
        assert schema.migrate(earlier)
        assert rows(conn) == before
        assert conn.execute(
            "select distinct reader, settings from exports"
        ).fetchall() == [("csv_reader", None)]
        # Other roles keep their grants and views.
        assert conn.execute("select from report").rowcount == len(before)
        assert conn.execute(
            "select has_table_privilege('reporter', 'live_exports', 'select')"
        ).fetchone() == (True,)
        # Who only read still sees all.
        conn.execute("set session authorization reporter")
        assert conn.execute("select from live_exports").rowcount == len(before)
        conn.execute("reset session authorization")
        # The exports can go on from their states.
        claimed = conn.execute(
            "select * from claim_export('new', '1 minute', '{}', 100)"
        ).fetchall()
        assert len(claimed) == sum(row[1] == "pending" for row in before)
        cancelled = "select cancel_export(id) from exports where status = 'processing'"
        assert {row[0] for row in conn.execute(cancelled)} == {"cancelled"}
        retried = "select retry_export(id) from exports where status in ('failed', 'cancelled')"
        assert {row[0] for row in conn.execute(retried)} == {"pending"}
        assert len(conn.execute("select id from live_exports").fetchall()) == len(
            before
        )
    assert not schema.migrate(earlier)
