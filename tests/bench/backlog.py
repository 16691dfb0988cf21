"""What a claim costs: in a backlog, and while an old snapshot is held open.

An old snapshot is what a long export has.  While it lasts, nothing that was
claimed can be vacuumed, which is how queues in PostgreSQL collapse.
"""

import asyncio
import statistics
import time
from collections import deque
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import click
import psycopg
from psycopg import IsolationLevel

from .common import Server, Table, options, percentile, report, run_server
from .queues import Ours, PgQueuer, Procrastinate, Queue

CLAIMS = 300  # for each figure
SEARCHES = 30  # the same, for claims that look everywhere
# Without the disk, whose flushes would hide the claim.
SETTINGS = {"fsync": "off", "autovacuum_naptime": "5s"}
KINDS: dict[str, type[Queue]] = {
    kind.name: kind for kind in (Ours, Procrastinate, PgQueuer)
}


@click.command()
@click.option("--pending", default=100_000, show_default=True, help="largest backlog")
@click.option(
    "--done",
    default=20_000,
    show_default=True,
    help="jobs done under the snapshot, a heartbeat for every other",
)
@click.option(
    "--queue",
    "names",
    multiple=True,
    type=click.Choice(list(KINDS)),
    default=list(KINDS),
    show_default=True,
    help="put this history through it",
)
@click.option(
    "--patience",
    default=600.0,
    show_default=True,
    help="seconds for each history; then its last row is how far it came",
)
@options
def main(
    pending: int,
    done: int,
    names: tuple[str, ...],
    patience: float,
    version: int | None,
    to: Path | None,
) -> None:
    """Measure a claim in a backlog, and beside a held snapshot ours and the peers'."""
    with run_server(version, **SETTINGS) as server:
        tables = [asyncio.run(in_backlog(server, pending))]
        held = Table(
            "one fetch while a snapshot is held",
            (
                "queue, and jobs done",
                "p50 ms",
                "p99 ms",
                "of the first",
                "everywhere ms",
                "jobs/s",
            ),
            plot="p50 ms",
        )
        for name in names:
            asyncio.run(under_snapshot(KINDS[name], server, done, patience, held))
        report("backlog", [*tables, held], to, server)


async def in_backlog(server: Server, largest: int) -> Table:
    table = Table("one claim of ours", ("pending", "p50 ms", "p99 ms", "of the first"))
    first = None
    async with Ours(server, database="backlog") as queue:
        size = 10
        while size <= largest:
            took: list[float] = []
            while len(took) < CLAIMS:
                await queue.refill(size)
                for _ in range(min(size, CLAIMS - len(took))):
                    took.append((await timed(queue.fetch()))[1])
            p50 = statistics.median(took)
            first = first or p50
            table.add(size, p50 * 1e3, percentile(took, 99) * 1e3, p50 / first)
            size *= 10
    return table


async def under_snapshot(
    kind: type[Queue], server: Server, done: int, patience: float, table: Table
) -> None:
    """Add rows to *table*: what a fetch costs after more and more was done."""
    async with kind(server) as queue:
        await queue.fill(done + CLAIMS + 4 * SEARCHES)
        fresh = History(queue, patience)
        await fresh.go_on(CLAIMS)
        ours = isinstance(queue, Ours)
        figures = fresh.figures(fresh.p50)
        table.add(f"{queue.name}, fresh", *figures, None, fresh.rate, ours=ours)
        async with await psycopg.AsyncConnection.connect(queue.database) as old:
            await old.set_isolation_level(IsolationLevel.REPEATABLE_READ)
            await old.execute(f"select from {queue.jobs} limit 1")
            history = History(queue, patience)
            for milestone in (done // 10, done // 4, done // 2, done):
                reached = await history.go_on(milestone)
                everywhere = await search(queue) if isinstance(queue, Ours) else None
                figures = history.figures(fresh.p50)
                title = f"{queue.name}, {history.done:,}"
                table.add(title, *figures, everywhere, history.rate, ours=ours)
                if not reached:
                    break


class History:
    """Jobs that are fetched and finished, one after the other, for *patience* seconds."""

    def __init__(self, queue: Queue, patience: float) -> None:
        self._queue = queue
        self._until = time.monotonic() + patience
        self._took: deque[float] = deque(maxlen=CLAIMS)
        self.done = 0
        self.rate = 0.0  # jobs a second, of the latest `go_on`

    async def go_on(self, milestone: int) -> bool:
        """Go on until *milestone* jobs are done; return whether it came so far."""
        began, before = time.perf_counter(), self.done
        while self.done < milestone and time.monotonic() < self._until:
            job, took = await timed(self._queue.fetch())
            self._took.append(took)
            if self.done % 2:
                await self._queue.beat(job)
            await self._queue.finish(job)
            self.done += 1
        self.rate = (self.done - before) / (time.perf_counter() - began)
        return self.done == milestone

    @property
    def p50(self) -> float:
        return statistics.median(self._took)

    def figures(self, first: float) -> tuple[float, float, float]:
        """Of the latest fetches: p50 and p99 in milliseconds, p50 against *first*."""
        return self.p50 * 1e3, percentile(self._took, 99) * 1e3, self.p50 / first


async def search(queue: Ours) -> float:
    """Return the p50, in milliseconds, of claims that look below the floors as well."""
    searches = []
    for _ in range(SEARCHES):
        job, took = await timed(queue.fetch(everywhere=True))
        searches.append(took)
        await queue.finish(job)
    return statistics.median(searches) * 1e3


async def timed(step: Awaitable[Any]) -> tuple[Any, float]:
    """Return the result of *step* and the seconds that it took."""
    began = time.perf_counter()
    result = await step
    return result, time.perf_counter() - began
