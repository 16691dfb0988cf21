"""How much memory a worker takes, its children included, against the rows."""

import asyncio
import resource
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import aiohttp
import click
import psycopg

from ..processes import Process
from .common import Server, Table, make_table, options, report, run_server

LOOK_EVERY = 0.02  # seconds
MIB = 2**20
STREAMS = 5_000
AT_ONCE = 100
FOREVER = aiohttp.ClientTimeout(total=None)


@click.command()
@click.option(
    "--rows",
    "sizes",
    multiple=True,
    default=[1_000_000, 5_000_000],
    show_default=True,
    help="may be given several times",
)
@click.option(
    "--kind", type=click.Choice(["narrow", "wide"]), default="narrow", show_default=True
)
@options
def main(
    sizes: tuple[int, ...], kind: str, version: int | None, to: Path | None
) -> None:
    """Measure the peak memory of a new worker for each size of a table.

    It is the sum of what the kernel calls VmHWM over the processes that lived at
    a time: pages that they share are counted for each.
    """
    table = Table(
        f"peak resident memory of one worker, exporting one {kind} table",
        ("rows", "file MB", "idle MiB", "peak MiB", "growth MiB"),
        plot="peak MiB",
        digits=1,
    )
    with run_server(version) as server:
        first = None
        for rows in sizes:
            size, idle, peak = asyncio.run(export(server, kind, rows))
            first = first or peak
            growth = (peak - first) / MIB
            table.add(rows, size / 1e6, idle / MIB, peak / MIB, growth, ours=True)
        strange = Table(
            "peak resident memory of serve",
            ("", "idle MiB", "peak MiB"),
            plot="peak MiB",
            digits=1,
        )
        for what, load in LOADS.items():
            idle, peak = asyncio.run(serve(server, load))
            strange.add(what, idle / MIB, peak / MIB, ours=True)
        report("memory", [table, strange], to, server)


Load = Callable[[aiohttp.ClientSession], Awaitable[None]]


async def serve(server: Server, load: Load) -> tuple[int, int]:
    """Return the bytes of memory of a new `serve`, before *load* and at the peak."""
    database = server.database(f"serve_{uuid4().hex}")
    with Process(database, server.folder / "exports", "serve") as process:
        unlimited = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(process.url(), connector=unlimited) as http:
            async with http.get("/exports") as answer:
                await answer.read()
            idle = resident(process.pid)
            await load(http)
            return idle, resident(process.pid)


async def stream(http: aiohttp.ClientSession) -> None:
    """Hold many event streams, of which nobody reads more than the beginning."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, STREAMS + 1000), hard))
    streams = []
    for _ in range(0, STREAMS, AT_ONCE):
        streams += await asyncio.gather(
            *(http.get("/events", timeout=FOREVER) for _ in range(AT_ONCE))
        )
    for one in streams:
        assert one.status == 200
        one.close()


def asking(query: str, *, dry_run: bool = False) -> Load:
    """Return what previews, or exports, *query*, and waits until it has ended."""

    async def ask(http: aiohttp.ClientSession) -> None:
        path = "/exports?dryRun=true" if dry_run else "/exports"
        async with http.post(path, json={"query": query}) as answer:
            assert answer.status in (200, 202, 422), await answer.text()
            told = await answer.json(content_type=None)
        if not dry_run:
            async with http.get(f"/exports/{told['jobId']}/events") as events:
                await events.read()  # until it has ended
            async with http.get(f"/exports/{told['jobId']}") as answer:
                status = (await answer.json())["status"]
                assert status == "completed", await answer.text()

    return ask


LOADS = {
    f"{STREAMS:,} idle event streams": stream,
    "a preview of 500 MB": asking(
        "select repeat('x', 50000000) as x from generate_series(1, 10)", dry_run=True
    ),
    "an export with rows of 20 MB": asking(
        "select repeat('x', 20000000) as x from generate_series(1, 3)"
    ),
    "an export with rows of 100 MB": asking(
        "select repeat('x', 100000000) as x from generate_series(1, 3)"
    ),
}


async def export(server: Server, kind: str, rows: int) -> tuple[int, int, int]:
    """Return the bytes of the file, and of memory before and at the peak."""
    database = server.database(f"{kind}_{rows}")
    make_table(database, kind, rows)
    with Process(database, server.folder / "exports", "worker") as worker:
        worker.until("working")
        idle = resident(worker.pid)
        peak = idle
        async with await psycopg.AsyncConnection.connect(
            database, autocommit=True
        ) as conn:
            await conn.execute("insert into exports (source) values ('bench')")
            while True:
                cursor = await conn.execute("select status, bytes, rows from exports")
                ((status, size, exported),) = await cursor.fetchall()
                peak = max(peak, resident(worker.pid))
                if status not in ("pending", "processing"):
                    assert (status, exported) == ("completed", rows), worker.log
                    return size, idle, peak
                await asyncio.sleep(LOOK_EVERY)


def resident(pid: int) -> int:
    """Return the bytes that a process and its descendants have had at most."""
    return sum(map(_high_water, descendants(pid)))


def descendants(pid: int) -> Iterator[int]:
    """Yield *pid*, its children, and theirs; whatever thread started them."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        for child in children:
            yield from descendants(int(child))


def _high_water(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0  # a zombie
