"""What a call of the API costs, and which share of it is PostgreSQL's."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import click
import psycopg

from ..processes import Process
from .common import Server, Table, make_table, options, percentile, report, run_server

INSERT = "insert into exports (source) values (%s) returning *"
GET = "select * from live_exports where id = %s"


@click.command()
@click.option("--calls", default=500, show_default=True, help="of each kind")
@options
def main(calls: int, version: int | None, to: Path | None) -> None:
    """Time calls over one connection on loopback, and the same SQL without the API."""
    table = Table(
        f"{calls:,} calls, one after the other; no worker",
        ("call", "p50 ms", "p99 ms", "the SQL alone, p50 ms", "PostgreSQL's share"),
        plot="p50 ms",
    )
    with run_server(version) as server:
        for call, (by_http, by_sql) in asyncio.run(measure(server, calls)).items():
            p50, alone = statistics.median(by_http), statistics.median(by_sql)
            p99 = percentile(by_http, 99)
            table.add(call, p50, p99, alone, alone / p50, ours=True)
        report("api", [table], to, server)


async def measure(
    server: Server, calls: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Return, for each call, the milliseconds over HTTP and of its SQL alone."""
    database = server.database("api")
    make_table(database, "narrow", 1_000)
    with Process(
        database, server.folder / "exports", "serve", "--slots", "0"
    ) as process:
        async with (
            aiohttp.ClientSession(process.url(), raise_for_status=True) as http,
            # As those of the pool are.
            await psycopg.AsyncConnection.connect(
                database, autocommit=True, prepare_threshold=None
            ) as conn,
        ):

            async def post() -> str:
                async with http.post("/exports", json={"source": "bench"}) as answer:
                    id: str = (await answer.json())["jobId"]
                    return id

            id = await post()

            async def get() -> None:
                async with http.get(f"/exports/{id}") as answer:
                    await answer.read()

            async def execute(statement: Any, *params: object) -> None:
                await (await conn.execute(statement, params)).fetchall()

            return {
                "POST /exports": await in_turn(
                    calls, post, lambda: execute(INSERT, "bench")
                ),
                "GET /exports/{id}": await in_turn(
                    calls, get, lambda: execute(GET, id)
                ),
            }


async def in_turn(
    calls: int, *steps: Callable[[], Awaitable[object]]
) -> tuple[list[float], ...]:
    """Return the milliseconds of *steps*, called one after the other."""
    took: tuple[list[float], ...] = tuple([] for _ in steps)
    for _ in range(calls):
        for step, of_step in zip(steps, took):
            began = time.perf_counter()
            await step()
            of_step.append((time.perf_counter() - began) * 1e3)
    return took
