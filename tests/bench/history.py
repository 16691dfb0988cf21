"""What a long history costs: the same questions with few and many finished exports."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import click
import psycopg

from .. import history
from ..processes import Process
from .common import Server, Table, options, report, run_server

LISTS = (
    "/exports",
    "/exports?limit=100",
    "/exports?status=completed",
    "/exports?status=failed",
    "/exports?status=cancelled",
    "/exports?status=pending",
    "/exports?source=users",
    "/exports?requestedBy=user7",
    "/exports?requestedBy=nobody",
    "/exports?createdFrom=2020-01-01T00:00:00Z",
    "/exports?createdUntil=2030-01-01T00:00:00Z",
    "/metrics",
    "/health",
)
CALLS = {
    "claim": "select from claim_exports('bench', '1 hour')",
    "rescue": "select from rescue_exports()",
    "look for debris": "select from find_debris(%s)",
    "prune": "select prune_exports('100 years')",
    "tick of all streams": "select from watch_exports('{}', true, true, now())",
}
PENDING = 200
Times = dict[str, float]


@click.command()
@click.option("--few", default=1_000, show_default=True)
@click.option("--many", default=2_000_000, show_default=True)
@click.option("--calls", default=30, show_default=True, help="of each kind")
@click.option("--subscribers", default=1_000, show_default=True)
@options
def main(
    few: int, many: int, calls: int, subscribers: int, version: int | None,
    to: Path | None,
) -> None:  # fmt: skip
    """Ask the same with *few* and *many* finished exports."""
    table = Table(
        f"{calls} calls of each, p50 in ms; behind them {few:,} and {many:,} exports",
        ("what", f"{few:,}", f"{many:,}", "ratio"),
        plot="ratio",
    )
    with run_server(version, shared_buffers="1GB") as server:
        found = [
            asyncio.run(measure(server, f"history_{count}", count, calls, subscribers))
            for count in (few, many)
        ]
        for what, before in found[0].items():
            after = found[1][what]
            table.add(what, before, after, after / before if before else None)
        report("history", [table], to, server)


async def measure(
    server: Server, name: str, count: int, calls: int, subscribers: int
) -> Times:
    """Return the milliseconds of each question, and how often all was read."""
    database = server.database(name)
    prepare(database, count)
    times: Times = {}
    began = time.perf_counter()
    with Process(
        database, server.folder / name, "serve", "--slots", "0", history=0
    ) as process:
        url = process.url()
        times["start of serve"] = (time.perf_counter() - began) * 1e3
        async with (
            aiohttp.ClientSession(url, raise_for_status=True) as http,
            await psycopg.AsyncConnection.connect(
                database, autocommit=True, prepare_threshold=None
            ) as conn,
        ):

            async def get(path: str) -> Any:
                async with http.get(path) as answer:
                    await answer.read()
                    return answer

            for path in LISTS:
                times[f"GET {path}"] = await p50(calls, lambda: get(path))
            after = (await get("/exports?limit=100")).links["next"]["url"].path_qs
            times["GET /exports?cursor=…"] = await p50(calls, lambda: get(after))
            for call, statement in CALLS.items():
                values = [[]] if "%s" in statement else None
                times[call] = await p50(calls, lambda: conn.execute(statement, values))
            times[f"{subscribers:,} streams begin"] = statistics.median(
                [await subscribe(url, subscribers) for _ in range(5)]
            )
            cursor = await conn.execute(
                "select coalesce(sum(seq_scan), 0)::float8 from pg_stat_user_tables"
                " where relname = 'exports'"
            )
            row = await cursor.fetchone()
            assert row
            times["sequential scans of exports"] = row[0]
    return times


def prepare(database: str, count: int) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        history.fill(conn, count)
        conn.execute(
            "insert into exports (query) select 'select 1'"
            f" from generate_series(1, {PENDING})"
        )
        conn.execute("vacuum analyze exports")
        conn.execute("select pg_stat_reset()")


async def p50(calls: int, step: Callable[[], Awaitable[object]]) -> float:
    """Return the median of *calls*, in milliseconds; the first is not counted."""
    took = []
    for _ in range(calls + 1):
        began = time.perf_counter()
        await step()
        took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took[1:])


async def subscribe(url: str, count: int) -> float:
    """Return the milliseconds until *count* streams have all told the present state."""
    forever = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        url,
        connector=aiohttp.TCPConnector(limit=0),
        timeout=forever,
        read_bufsize=2**20,
    ) as http:

        async def one() -> aiohttp.ClientResponse:
            stream = await http.get("/events")
            async for line in stream.content:
                if line.startswith(b"data:"):
                    break
            return stream

        began = time.perf_counter()
        streams = await asyncio.gather(*(one() for _ in range(count)))
        took = (time.perf_counter() - began) * 1e3
        for stream in streams:
            stream.close()
    return took
