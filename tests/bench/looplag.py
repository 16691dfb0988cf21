"""How late the API is while exports run in the same process.

The lag is measured inside, by a probe in the event loop: from outside, the
database's and the client's own share of the cores would count as well.  Beside
it stands what a client sees, which has all of that: GET /health.
"""

import asyncio
import json
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import click
import psycopg

from ..processes import Process
from .common import Server, Table, make_table, options, percentile, report, run_server

PAUSE = 0.01  # seconds between requests
ENDLESS = "select generate_series(1, 1000000000) as n"
IDLE = 3.0  # seconds


@click.command()
@click.option("--rows", default=5_000_000, show_default=True, help="of each export")
@click.option("--exports", default=2, show_default=True, help="at a time")
@click.option("--silence", default=10.0, show_default=True, help="seconds of a source")
@options
def main(
    rows: int, exports: int, silence: float, version: int | None, to: Path | None
) -> None:
    """Measure the event loop's lag, and GET /health, idle and while exports run.

    Then while the source of one export is silent: its server process is stopped.
    """
    table = Table(
        f"the API while it exports {rows:,} rows {exports} times at once, and while"
        f" a source is silent for {silence:g} s",
        ("", "samples", "p50 ms", "p99 ms", "max ms"),
    )
    with run_server(version) as server:
        figures = asyncio.run(measure(server, rows, exports, silence))
        for title, milliseconds in figures.items():
            p50, p99 = statistics.median(milliseconds), percentile(milliseconds, 99)
            table.add(title, len(milliseconds), p50, p99, max(milliseconds))
        report("looplag", [table], to, server)


async def measure(
    server: Server, rows: int, exports: int, silence: float
) -> dict[str, list[float]]:
    """Return the lags and latencies, in milliseconds."""
    database = server.database("looplag")
    make_table(database, "narrow", rows)
    with Process(
        database,
        server.folder / "exports",
        module="tests.bench.probe",
        worker_slots=exports,
    ) as api:
        async with aiohttp.ClientSession(api.url(), raise_for_status=True) as http:
            lags(api)
            idle = await latencies(http, asyncio.create_task(asyncio.sleep(IDLE)))
            idle_lags = lags(api)
            busy = await latencies(http, asyncio.create_task(export(http, exports)))
            busy_lags = lags(api)
            took: list[float] = []
            async with silent_source(server, http):
                lags(api)
                silent = await latencies(
                    http, asyncio.create_task(small_exports(http, silence, took))
                )
                silent_lags = lags(api)
            return {
                "lag, idle": idle_lags,
                "lag, exporting": busy_lags,
                "lag, a source is silent": silent_lags,
                "GET /health, idle": idle,
                "GET /health, exporting": busy,
                "GET /health, a source is silent": silent,
                "another's export, a source is silent": took,
            }


@asynccontextmanager
async def silent_source(
    server: Server, http: aiohttp.ClientSession
) -> AsyncIterator[None]:
    """Stop the server process of an export while the block lasts."""
    async with http.post("/exports", json={"query": ENDLESS}) as answer:
        id = (await answer.json())["jobId"]
    with psycopg.connect(server.conninfo, autocommit=True) as conn:
        while not (
            row := conn.execute(
                "select pid from pg_stat_activity join pg_stat_progress_copy using (pid)"
                " where tuples_processed > 0 and application_name like %s",
                [f"export {id}%"],
            ).fetchone()
        ):
            await asyncio.sleep(PAUSE)
    os.kill(row[0], signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(row[0], signal.SIGCONT)
        await (await http.post(f"/exports/{id}/cancel")).read()


async def small_exports(
    http: aiohttp.ClientSession, seconds: float, took: list[float]
) -> None:
    """Export next to nothing again and again; note the milliseconds of each."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.perf_counter()
        async with http.post("/exports", json={"query": "select 1"}) as answer:
            id = (await answer.json())["jobId"]
        async with http.get(f"/exports/{id}/events") as stream:
            await stream.read()  # until it has ended
        took.append((time.perf_counter() - began) * 1e3)
        await asyncio.sleep(10 * PAUSE)


def lags(api: Process) -> list[float]:
    """Return the lags since they were asked for the last time."""
    api.signal(signal.SIGUSR1)
    told: list[float] = json.loads(api.until("lags [").removeprefix("lags "))
    return told


async def latencies(
    http: aiohttp.ClientSession, meanwhile: asyncio.Task[None]
) -> list[float]:
    """Return how long GET /health takes, again and again until *meanwhile* is over."""
    took: list[float] = []
    while not meanwhile.done():
        began = time.perf_counter()
        async with http.get("/health") as answer:
            await answer.read()
        took.append((time.perf_counter() - began) * 1e3)
        await asyncio.sleep(PAUSE)
    await meanwhile
    return took


async def export(http: aiohttp.ClientSession, exports: int) -> None:
    """Return when all *exports*, submitted at once, are completed."""
    waiting = []
    for _ in range(exports):
        async with http.post("/exports", json={"source": "bench"}) as answer:
            waiting.append((await answer.json())["jobId"])
    for id in waiting:
        status = "pending"
        while status in ("pending", "processing"):
            await asyncio.sleep(0.1)
            async with http.get(f"/exports/{id}") as answer:
                status = (await answer.json())["status"]
        assert status == "completed"
