"""What every benchmark needs: a server, alternating runs, tables, JSON."""

import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rich import box
from rich.console import Console
from rich.table import Table as Grid

from service.postgres import embedded, schema

# Scans that share their way give the rows of several exports in other orders.
SETTINGS = {"timezone": "UTC", "max_wal_size": "8GB", "synchronize_seqscans": "off"}
LOAD_BEFORE = os.getloadavg()[0]  # of others: we have not begun
WIDTH = 160  # characters of a table, whatever the terminal has

Command = Callable[..., Any]


def options(command: Command) -> Command:
    """Add the options that all benchmarks have."""
    command = click.option(
        "--json", "to", type=click.Path(path_type=Path), help="write the figures there"
    )(command)
    return click.option(
        "--version", type=int, help="major version of PostgreSQL  [default: newest]"
    )(command)


@dataclass(frozen=True)
class Server:
    """A PostgreSQL of the run's own, in a folder that its user can enter."""

    folder: Path
    version: int
    bindir: Path
    conninfo: str
    postgres: embedded.Postgres

    def database(self, name: str, *, migrate: bool = True) -> str:
        """Create the database *name*, for the service unless told otherwise."""
        with psycopg.connect(self.conninfo, autocommit=True) as conn:
            conn.execute(f"create database {name}")
        conninfo = make_conninfo(self.conninfo, dbname=name)
        if migrate:
            schema.migrate(conninfo)
        return conninfo

    def cpu_seconds(self) -> float:
        """CPU that the server's processes have used, those that ended included."""
        assert self.postgres.pid
        postmaster = Path(f"/proc/{self.postgres.pid}")
        listed = postmaster / f"task/{postmaster.name}/children"
        while True:
            children = listed.read_text()
            ticks = sum(_times(postmaster))
            for child in children.split():
                ticks += sum(_times(Path("/proc") / child)[:2])
            # Else one ended meanwhile, and was counted twice or not at all.
            if listed.read_text() == children:
                return ticks / os.sysconf("SC_CLK_TCK")


def _times(process: Path) -> list[int]:
    """The ticks of a process, user and system, and those of its ended children."""
    try:
        stat = (process / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return [0] * 4  # its parent has them now
    return [int(ticks) for ticks in stat.rpartition(")")[2].split()[11:15]]


@contextmanager
def run_server(version: int | None, **settings: str) -> Iterator[Server]:
    """Run a server while the block lasts; *settings* beyond `SETTINGS`."""
    binaries = embedded.find_binaries()
    version = version or max(binaries)
    with tempfile.TemporaryDirectory(prefix="csv-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        postgres = embedded.Postgres(
            folder / "data", version=version, settings=SETTINGS | settings
        )
        with postgres as conninfo:
            yield Server(folder, version, binaries[version], conninfo, postgres)


def make_table(conninfo: str, kind: str, rows: int, name: str = "bench") -> None:
    """Create a table that csv_reader may read.

    Narrow: two short texts between a number and an instant.  Wide: the users
    of the seeds, eleven columns with quotes, line breaks and nulls.
    """
    with psycopg.connect(conninfo, autocommit=True) as conn:
        if kind == "narrow":
            conn.execute(
                f"create table {name} as select n as id, 'User ' || n as name,"
                " 'user' || n || '@example.com' as email,"
                " timestamptz '2020-01-01' + n * interval '1 min' as at"
                f" from generate_series(1, {rows:d}) as n"
            )
        else:
            schema.seed(conninfo, rows)
            conn.execute(f"alter table users rename to {name}")
        if conn.execute("select to_regrole('csv_reader')").fetchone() != (None,):
            conn.execute(f"grant select on {name} to csv_reader")
        conn.execute(f"vacuum analyze {name}")
        conn.execute("checkpoint")  # or it would be written during the first runs


def connection_arguments(conninfo: str) -> dict[str, Any]:
    """Return *conninfo* as asyncpg takes it."""
    params = conninfo_to_dict(conninfo)
    return {
        "host": params["host"],
        "port": params["port"],
        "user": params["user"],
        "database": params["dbname"],
    }


@dataclass(frozen=True)
class Spread:
    """The median of several runs, and their range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


def alternate(
    ways: Mapping[str, Callable[[], Any]], runs: int, warm_up: int = 1
) -> dict[str, list[Any]]:
    """Run each of *ways* in turn, *runs* times; what a warm-up returns is dropped."""
    results: dict[str, list[Any]] = {way: [] for way in ways}
    for round in range(-warm_up, runs):
        for way, run in ways.items():
            result = run()
            if round >= 0:
                results[way].append(result)
    return results


@dataclass(frozen=True)
class Usage:
    """Seconds that something took: wall, CPU of the client, CPU of the server."""

    wall: float
    client: float
    server: float


def measure(run: Callable[[], object], server: Server) -> Usage:
    """Time *run*; the client is this process, the children it has waited for, and lanes."""
    server_before, client_before = server.cpu_seconds(), _own_cpu_seconds()
    began = time.perf_counter()
    run()
    wall = time.perf_counter() - began
    client = _own_cpu_seconds() - client_before
    return Usage(wall, client, server.cpu_seconds() - server_before)


def _own_cpu_seconds() -> float:
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    ended = sum(usage.ru_utime + usage.ru_stime for usage in used)
    ticks = sum(sum(_times(lane)[:2]) for lane in _lanes())
    return ended + ticks / os.sysconf("SC_CLK_TCK")


def _lanes() -> Iterator[Path]:
    """Our lanes, which live on after a run; the server is our child as well."""
    for listed in Path("/proc/self/task").glob("*/children"):
        for child in listed.read_text().split():
            process = Path("/proc") / child
            if b"copying.lane" in (process / "cmdline").read_bytes():
                yield process


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def machine() -> dict[str, Any]:
    """Describe what the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    models = [
        line.partition(":")[2].strip()
        for line in cpuinfo.splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(LOAD_BEFORE, 2),
    }


@dataclass
class Table:
    """Rows of figures under headings; the first names the row.

    *plot* is the heading that a plot shows, and *ours* the rows to point out.
    """

    title: str
    headings: Sequence[str]
    plot: str | None = None
    digits: int = 2
    rows: list[Sequence[Any]] = field(default_factory=list)
    ours: list[Any] = field(default_factory=list)

    def add(self, *cells: Any, ours: bool = False) -> None:
        self.rows.append(cells)
        if ours:
            self.ours.append(cells[0])

    def show(self, console: Console) -> None:
        grid = Grid(box=box.MARKDOWN)
        for n, heading in enumerate(self.headings):
            grid.add_column(heading, justify="right" if n else "left")
        for row in self.rows:
            grid.add_row(*map(self._text, row))
        console.print(f"\n{self.title}", grid, sep="\n")

    def _text(self, cell: Any) -> str:
        match cell:
            case None:
                return "–"
            case Spread():
                low, high = self._text(cell.low), self._text(cell.high)
                return f"{self._text(cell.median)} [{low}–{high}]"
            case float():
                return f"{cell:,.{self.digits}f}"
            case int():
                return f"{cell:,}"
        return str(cell)

    def plain(self) -> dict[str, Any]:
        rows = [dict(zip(self.headings, row, strict=True)) for row in self.rows]
        return {
            "title": self.title,
            "plot": self.plot,
            "ours": self.ours,
            "rows": rows,
        }


def report(
    topic: str, tables: Sequence[Table], to: Path | None, server: Server | None = None
) -> None:
    """Print the machine and *tables*; write both to the file *to*."""
    there = machine()
    if server:
        there["postgresql"] = server.version
    console = Console(width=WIDTH, highlight=False)
    console.print(", ".join(f"{key} {value}" for key, value in there.items()))
    for table in tables:
        table.show(console)
    if to:
        to.parent.mkdir(parents=True, exist_ok=True)
        figures = {
            "topic": topic,
            "machine": there,
            "tables": [table.plain() for table in tables],
        }
        to.write_text(json.dumps(figures, default=vars, indent=1) + "\n")
