"""Tiny exports a second, a durable file each, beside the peers' jobs of nothing."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import click

from .common import Server, Spread, Table, options, report, run_server
from .noop import CONCURRENCY
from .queues import Ours, PgQueuer, Procrastinate, Queue


@click.command()
@click.option("--jobs", default=2_000, show_default=True, help="of each queue and run")
@click.option("--runs", default=3, show_default=True)
@click.option("--slots", default=2, show_default=True, help="of our worker")
@options
def main(
    jobs: int, runs: int, slots: int, version: int | None, to: Path | None
) -> None:
    """Measure how many tiny jobs one worker does in a second, submitted at once.

    Ours are exports of `select 1`, each a file that is flushed to the disk; the
    peers' do nothing.  The server flushes every commit of all of them.
    """
    with run_server(version) as server:
        rates = asyncio.run(run(server, jobs, runs, slots))
        table = Table(
            f"{jobs:,} jobs by one worker, {runs} runs of each",
            ("queue", "job", "at once", "jobs/s"),
            plot="jobs/s",
            digits=0,
        )
        for queue, of_queue in rates.items():
            job, width = ("select 1, a durable file", slots)
            if queue != Ours.name:
                job, width = ("nothing", CONCURRENCY)
            table.add(queue, job, width, Spread.of(of_queue), ours=queue == Ours.name)
        report("tiny", [table], to, server)


async def run(
    server: Server, jobs: int, runs: int, slots: int
) -> dict[str, list[float]]:
    """Return the jobs a second of each queue, in alternating runs."""
    async with AsyncExitStack() as stack:
        queues: list[Queue] = []
        for queue in (
            Ours(server, slots=slots),
            Procrastinate(server),
            PgQueuer(server),
        ):
            await stack.enter_async_context(queue)
            await queue.work()
            queues.append(queue)
        rates: dict[str, list[float]] = {queue.name: [] for queue in queues}
        for _ in range(runs):
            for queue in queues:
                await queue.submit(jobs)
                began = time.perf_counter()
                await queue.until_done()
                rates[queue.name].append(jobs / (time.perf_counter() - began))
        return rates
