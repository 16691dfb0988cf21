"""What it costs to ask for a key."""

import asyncio
import statistics
from pathlib import Path

import aiohttp
import click
import psycopg

from ..processes import Process
from .api import in_turn
from .common import Server, Table, options, percentile, report, run_server

PATHS = ("/exports?limit=1", "/sources")


@click.command()
@click.option("--calls", default=2000, show_default=True, help="of each kind")
@options
def main(calls: int, version: int | None, to: Path | None) -> None:
    """Time calls of two servers in turn: one with AUTH=none, one with AUTH=keys."""
    table = Table(
        f"{calls:,} calls of each, in turn",
        ("call", "AUTH=none, p50 ms", "AUTH=keys, p50 ms", "p99 ms", "the key ms"),
        plot="the key ms",
    )
    with run_server(version) as server:
        for path in PATHS:
            free, asked = asyncio.run(measure(server, path, calls))
            without, with_key = statistics.median(free), statistics.median(asked)
            p99 = percentile(asked, 99)
            table.add(f"GET {path}", without, with_key, p99, with_key - without)
        report("keys", [table], to, server)


async def measure(
    server: Server, path: str, calls: int
) -> tuple[list[float], list[float]]:
    """Return the milliseconds of the calls without and with a key."""
    database = server.database(f"keys_{PATHS.index(path)}")
    folder = server.folder / "exports"
    with (
        Process(database, folder, "serve", "--slots", "0") as free,
        Process(database, folder, "serve", "--slots", "0", auth="keys") as asking,
    ):
        urls = free.url(), asking.url()
        with psycopg.connect(database) as conn:
            row = conn.execute("select key from create_key('bench')").fetchone()
            assert row
        bearer = {"Authorization": f"Bearer {row[0]}"}
        async with (
            aiohttp.ClientSession(urls[0], raise_for_status=True) as one,
            aiohttp.ClientSession(
                urls[1], headers=bearer, raise_for_status=True
            ) as other,
        ):

            async def get(http: aiohttp.ClientSession) -> None:
                async with http.get(path) as answer:
                    await answer.read()

            took = await in_turn(calls, lambda: get(one), lambda: get(other))
    return took[0], took[1]
