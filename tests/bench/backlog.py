"""What a claim costs: in a backlog, and while an old snapshot is held open."""

import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import psycopg
from psycopg.rows import dict_row

from service import db, embedded

CLAIMS = 300  # for each figure
HOLD = "begin isolation level repeatable read; select count(*) from exports"

# A long run of other workers: a transaction for each step, as theirs.
DRIVE = """
do $$
declare
    floors timestamptz[] := array_fill(null::timestamptz, array[10]);
    claimed exports;
begin
    for n in 1..{exports} loop
        select * into claimed from claim_export('other', '1 h', floors);
        floors[6] := claimed.run_at;
        commit;
        for beat in 1..n % 2 loop
            perform heartbeat_export(claimed.id, claimed.attempt, '1 h', n, n);
            commit;
        end loop;
        perform complete_export(claimed.id, claimed.attempt, 1, 1, repeat('a', 64));
        commit;
    end loop;
end
$$
"""


@click.command()
@click.option("--pending", default=1_000_000, show_default=True, help="largest backlog")
@click.option(
    "--done",
    default=200_000,
    show_default=True,
    help="exports claimed and completed under the snapshot, a heartbeat for every other",
)
@click.option(
    "--version", type=int, help="major version of PostgreSQL  [default: newest]"
)
def main(pending: int, done: int, version: int | None) -> None:
    """Measure claim_export as a worker calls it, above its floors and everywhere."""
    with tempfile.TemporaryDirectory(prefix="csv-bench-") as folder:
        Path(folder).chmod(0o711)
        data = Path(folder) / "data"
        quick = {"fsync": "off", "max_wal_size": "8GB", "autovacuum_naptime": "5s"}
        with embedded.Postgres(data, version=version, settings=quick) as conninfo:
            db.migrate(conninfo)
            with psycopg.connect(
                conninfo, autocommit=True, row_factory=dict_row, prepare_threshold=None
            ) as conn:
                conn.execute("set client_min_messages = warning")
                backlog(conn, pending)
                snapshot(conn, conninfo, done)


def backlog(conn: psycopg.Connection[Any], pending: int) -> None:
    reference = None
    size = 10
    while size <= pending:
        fill(conn, size)
        reference = report(f"{size:,} pending", claims(conn, size, Floors()), reference)
        size *= 10


def snapshot(conn: psycopg.Connection[Any], conninfo: str, done: int) -> None:
    fill(conn, 10_000)
    reference = report("fresh", claims(conn, 10_000, Floors()), None)
    with psycopg.connect(conninfo, autocommit=True) as old:
        old.execute(HOLD)
        for part in (done // 10, done // 4, done // 2, done):
            fill(conn, part + 10_000)
            # A worker that has been there all the time knows where it is.
            floors = Floors()
            began = time.perf_counter()
            conn.execute(DRIVE.format(exports=part))
            took = time.perf_counter() - began
            floors.take(conn)
            title = f"snapshot held, {part:,} done"
            report(title, claims(conn, part + 10_000, floors), reference)
            report("  looking everywhere", claims(conn, 0, None), reference)
            click.echo(f"  {part / took:,.0f} claimed and completed a second")


class Floors:
    """What a worker remembers, as `Worker` does."""

    def __init__(self) -> None:
        self.known: list[datetime | None] = [None] * 10

    def take(self, conn: psycopg.Connection[Any]) -> float:
        """Claim; return how long that took, in seconds."""
        began = time.perf_counter()
        row = conn.execute(
            "select * from claim_export('bench', '1 h', %s::timestamptz[])",
            [self.known],
        ).fetchone()
        took = time.perf_counter() - began
        assert row
        self.known[row["priority"]] = row["run_at"]
        return took


def fill(conn: psycopg.Connection[Any], size: int) -> None:
    """Make it *size* pending exports, without planning each one's SELECT."""
    conn.execute("delete from exports where status <> 'pending'")
    conn.execute("alter table exports disable trigger user")
    conn.execute(
        "insert into exports (query, sql_text) select 'select 1', 'select 1'"
        " from generate_series(1, %s - (select count(*) from exports))",
        [size],
    )
    conn.execute("alter table exports enable trigger user")
    conn.execute("vacuum analyze exports")


def claims(
    conn: psycopg.Connection[Any], size: int, floors: Floors | None
) -> list[float]:
    """Return the times of `CLAIMS` claims; small backlogs are filled up again."""
    if floors is None:
        return [Floors().take(conn) for _ in range(CLAIMS)]
    took: list[float] = []
    while len(took) < CLAIMS:
        if len(took) and size < CLAIMS:
            fill(conn, size)
        took += [floors.take(conn) for _ in range(min(size, CLAIMS))]
    return took


def report(title: str, took: list[float], reference: float | None) -> float:
    p50, p99 = statistics.median(took), statistics.quantiles(took, n=100)[98]
    ratio = f"  {p50 / reference:5.2f} times the first" if reference else ""
    click.echo(f"{title:32} p50 {p50 * 1e3:6.2f} ms  p99 {p99 * 1e3:6.2f} ms{ratio}")
    return reference or p50
