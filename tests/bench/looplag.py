"""How late the API is while exports run in the same process.

The lag is measured inside, by a probe in the event loop: from outside, the
database's and the client's own share of the cores would count as well.  Beside
it stands what a client sees, which has all of that: GET /health.
"""

import asyncio
import json
import signal
import statistics
import time
from pathlib import Path

import aiohttp
import click

from ..processes import Process
from .common import Server, Table, make_table, options, percentile, report, run_server

PAUSE = 0.01  # seconds between requests
IDLE = 3.0  # seconds


@click.command()
@click.option("--rows", default=5_000_000, show_default=True, help="of each export")
@click.option("--exports", default=2, show_default=True, help="at a time")
@options
def main(rows: int, exports: int, version: int | None, to: Path | None) -> None:
    """Measure the event loop's lag, and GET /health, idle and while exports run."""
    table = Table(
        f"the API while it exports {rows:,} rows {exports} times at once",
        ("", "samples", "p50 ms", "p99 ms", "max ms"),
    )
    with run_server(version) as server:
        figures = asyncio.run(measure(server, rows, exports))
        for title, milliseconds in figures.items():
            p50, p99 = statistics.median(milliseconds), percentile(milliseconds, 99)
            table.add(title, len(milliseconds), p50, p99, max(milliseconds))
        report("looplag", [table], to, server)


async def measure(server: Server, rows: int, exports: int) -> dict[str, list[float]]:
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
            return {
                "lag, idle": idle_lags,
                "lag, exporting": lags(api),
                "GET /health, idle": idle,
                "GET /health, exporting": busy,
            }


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
