"""The pump against `psql \\copy`: one stream, one file, alternating runs."""

import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import psycopg

from service import embedded
from service.copy import Copy
from service.storage import Directory

SELECT = "select * from bench"


@click.command()
@click.option("--rows", default=5_000_000, show_default=True)
@click.option(
    "--runs", default=5, show_default=True, help="of each way, after one warm-up"
)
@click.option(
    "--version", type=int, help="major version of PostgreSQL  [default: newest]"
)
def main(rows: int, runs: int, version: int | None) -> None:
    """Compare the pump with psql, in wall and client CPU seconds."""
    folder = Path(tempfile.mkdtemp(prefix="csv-bench-"))
    folder.chmod(0o711)
    version = version or max(embedded.find_binaries())
    psql = embedded.find_binaries()[version] / "psql"
    try:
        with embedded.Postgres(folder / "data", version=version) as conninfo:
            with psycopg.connect(conninfo, autocommit=True) as conn:
                conn.execute(
                    "create table bench as select n as id, 'User ' || n as name,"
                    " 'user' || n || '@example.com' as email,"
                    " timestamptz '2020-01-01' + n * interval '1 min' as at"
                    " from generate_series(1, %s) as n" % int(rows)
                )
                conn.execute("vacuum analyze bench")
            storage = Directory(folder / "exports")

            def by_psql() -> None:
                to = folder / "psql.csv"
                copy = rf"\copy ({SELECT}) to '{to}' with (format csv, header)"
                subprocess.run([psql, "-Xqd", conninfo, "-c", copy], check=True)

            def by_pump(*, keep: bool) -> Callable[[], None]:
                def run() -> None:
                    copy = Copy(conninfo, "bench", SELECT)
                    with storage.create("pump.csv") as partial:
                        copy.run(partial.write)
                        if keep:
                            partial.keep()

                return run

            ways = {
                "psql \\copy": by_psql,
                "pump, sha256": by_pump(keep=False),
                "pump, sha256, fsync": by_pump(keep=True),
            }
            figures: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
            for _ in range(runs + 1):
                for way, run in ways.items():
                    figures[way].append(measure(run))
            assert (folder / "psql.csv").read_bytes() == storage.path(
                "pump.csv"
            ).read_bytes()
            size = (folder / "psql.csv").stat().st_size
    finally:
        shutil.rmtree(folder)
    click.echo(
        f"PostgreSQL {version}, {rows:,} rows, {size / 1e6:,.0f} MB, {runs} runs of each"
    )
    reference = [
        statistics.median(column) for column in zip(*figures["psql \\copy"][1:])
    ]
    for way, all_runs in figures.items():
        wall, cpu = (sorted(column) for column in zip(*all_runs[1:]))
        click.echo(
            f"{way:20} wall {statistics.median(wall):6.2f} s [{wall[0]:.2f}–{wall[-1]:.2f}]"
            f"  client CPU {statistics.median(cpu):5.2f} s"
            f"  ratio {statistics.median(wall) / reference[0]:.2f} wall,"
            f" {statistics.median(cpu) / reference[1]:.2f} CPU"
        )


def measure(run: Callable[[], None]) -> tuple[float, float]:
    """Return the wall and CPU seconds of *run*, its child processes included."""
    before, began = cpu_seconds(), time.perf_counter()
    run()
    return time.perf_counter() - began, cpu_seconds() - before


def cpu_seconds() -> float:
    used = (
        resource.getrusage(who)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
