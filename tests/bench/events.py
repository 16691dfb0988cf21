"""What a crowd that watches costs: delay, memory, connections.

The subscribers are sockets in a process of their own (`python -m
tests.bench.events URL COUNT`); a few of them read what arrives, the others
count bytes.  A delay is from the instant in the event, when the figures were
read or the export ended, to its arrival.
"""

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import click
import psycopg

from ..processes import Process
from .common import Server, Table, make_table, options, percentile, report, run_server
from .looplag import export
from .memory import resident

READERS = 20  # of the subscribers
AT_ONCE = 100  # connections being opened


@click.command()
@click.option("--subscribers", default=2_000, show_default=True)
@click.option("--exports", default=4, show_default=True, help="at a time")
@click.option("--rows", default=5_000_000, show_default=True, help="of each export")
@options
def main(
    subscribers: int, exports: int, rows: int, version: int | None, to: Path | None
) -> None:
    """Measure the delay of events, and the memory of a subscriber, in a crowd."""
    with run_server(version) as server:
        figures = asyncio.run(measure(server, subscribers, exports, rows))
        delays, memory, listeners = figures
        table = Table(
            f"{subscribers:,} subscribers, {exports} exports of {rows:,} rows at a time",
            ("", "events", "p50 ms", "p99 ms", "max ms"),
        )
        for kind, of_kind in delays.items():
            p50, p99 = statistics.median(of_kind), percentile(of_kind, 99)
            table.add(kind, len(of_kind), p50, p99, max(of_kind))
        cost = Table("each subscriber", ("KB", "listening connections of all"))
        cost.add(memory / 1e3, listeners)
        report("events", [table, cost], to, server)


async def measure(
    server: Server, subscribers: int, exports: int, rows: int
) -> tuple[dict[str, list[float]], float, int]:
    """Return the delays in milliseconds, bytes a subscriber, and connections."""
    database = server.database("events")
    make_table(database, "narrow", rows)
    folder = server.folder / "exports"
    with (
        Process(database, folder, "serve", "--slots", "0") as api,
        Process(database, folder, "worker", "--slots", str(exports)),
    ):
        url = api.url()
        async with aiohttp.ClientSession(url, raise_for_status=True) as http:
            await (await http.get("/exports")).read()
            before = resident(api.pid)
            crowd = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", __name__, url, str(subscribers)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert crowd.stdin and crowd.stdout
            assert await crowd.stdout.readline() == b"ready\n"
            memory = (resident(api.pid) - before) / subscribers
            await export(http, exports)
            crowd.stdin.close()
            delays = json.loads(await crowd.stdout.read())
        with psycopg.connect(database) as conn:
            row = conn.execute(
                "select count(*) from pg_stat_activity where datname = 'events'"
                " and application_name = 'listener'"
            ).fetchone()
            assert row
    # The worker, which is another process, has one of its own.
    return delays, memory, row[0] - 1


class Watcher(asyncio.Protocol):
    """A subscriber; with *delays* one that reads."""

    def __init__(self, request: bytes, delays: dict[str, list[float]] | None) -> None:
        self._request = request
        self._delays = delays
        self._buffer = b""
        self.greeted = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.time()
        self.greeted.set()
        if self._delays is None:
            return
        *events, self._buffer = (self._buffer + data).split(b"\n\n")
        for event in events:
            if b"event: " in event:
                self._read(event[event.index(b"id: ") :].decode(), now)

    def _read(self, event: str, now: float) -> None:
        id, kind, _ = event.split("\n", 2)
        read, _, finished = id.removeprefix("id: ").partition("-")
        kind = "completed" if finished else kind.removeprefix("event: ")
        at = int(finished or read) / 1e6
        assert self._delays is not None
        self._delays.setdefault(kind, []).append((now - at) * 1e3)


async def crowd(url: str, count: int) -> None:
    """Subscribe *count* times; print the delays once standard input is closed."""
    delays: dict[str, list[float]] = {}
    place = urlsplit(url)
    request = f"GET /events HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    turn = asyncio.Semaphore(AT_ONCE)

    async def subscribe(n: int) -> None:
        async with turn:
            _, watcher = await loop.create_connection(
                lambda: Watcher(request, delays if n < READERS else None),
                place.hostname,
                place.port,
            )
            await watcher.greeted.wait()

    await asyncio.gather(*map(subscribe, range(count)))
    delays.clear()
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps(delays))


if __name__ == "__main__":
    asyncio.run(crowd(sys.argv[1], int(sys.argv[2])))
