"""Clients that are silent, slow, greedy, too many, or do not speak HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from yarl import URL

from service.api import connections
from service.api import events as streams
from service.queue import feed

from ..conftest import Service, Start, eventually

pytestmark = pytest.mark.newest

Conn = psycopg.Connection[Any]
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(service: Service) -> AsyncIterator[Pair]:
    url = URL(service.url)
    assert url.host and url.port
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ask(service: Service, sent: bytes) -> tuple[int, dict[str, str], Any]:
    """Send the bytes; return the status, headers and JSON of the answer."""
    async with connected(service) as (reader, writer):
        writer.write(sent)
        async with asyncio.timeout(30):
            answer = await reader.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, json.loads(body)


def open_connections(url: URL) -> int:
    """Return how many connections the server has, according to the kernel."""
    local = f"0100007F:{url.port:04X}"
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return sum(line[1] == local and line[3] == "01" for line in table)


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: here\r\nX: "],
    ids=["nothing", "a line", "headers"],
)
async def test_who_does_not_ask_is_closed(
    start: Start, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "SILENCE", 0.2)
    service = await start(work=False)
    async with connected(service) as (reader, writer):
        writer.write(sent)
        async with asyncio.timeout(30):
            assert await reader.read() == b""


async def test_a_body_that_does_not_arrive_is_a_408(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.bodies.PATIENCE", 0.2)
    status, headers, problem = await ask(
        service,
        b"POST /exports HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 30\r\n\r\n{"query":',
    )
    assert (status, problem["status"]) == (408, 408)
    assert headers["connection"] == "close"


async def test_who_does_not_read_a_file_is_closed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNREAD", 500)
    service = await start()
    big = "select repeat('x', 1000000) from generate_series(1, 30)"
    id = (await service.ended((await service.export(query=big))["jobId"]))["jobId"]
    url = URL(service.url)
    assert url.host and url.port
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(
        f"GET /exports/{id}/download HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    )

    async def one() -> bool:
        return open_connections(url) == 1

    async def none() -> bool:
        return open_connections(url) == 0

    await service.http.close()  # its idle connection would be counted
    await eventually(one)
    await eventually(none)
    writer.transport.abort()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n", 400),
        (b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * 9000), 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: %b\r\n\r\n" % (b"x" * 9000), 431),
    ],
    ids=["no HTTP", "no header", "long URL", "long header"],
)
async def test_what_is_no_http_is_a_problem_of_theirs(
    service: Service, sent: bytes, status: int
) -> None:
    got, headers, problem = await ask(service, sent)
    assert (got, problem["status"]) == (status, status)
    assert headers["content-type"] == "application/problem+json"


async def test_too_many_connections_are_refused_and_the_others_served(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        connections, "_raise_limit", lambda: connections.RESERVED + 2 * 4
    )
    service = await start()
    async with (
        connected(service) as (_, first),
        connected(service),
        connected(service),
        connected(service) as (reader, writer),
    ):
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        status, headers, problem = await ask(service, b"")
        assert (status, headers["retry-after"]) == (503, "5")
        assert "too many connections" in problem["detail"]
        first.transport.abort()

        async def served() -> bool:
            ask_again = b"GET /health/live HTTP/1.1\r\nConnection: close\r\n"
            got, _, _ = await ask(service, ask_again + b"Host: localhost\r\n\r\n")
            return got == 200

        await eventually(served)


async def test_who_was_away_long_gets_no_more_than_a_backlog(
    start: Start, conn: Conn
) -> None:
    conn.execute(
        "insert into exports (query) select 'select ' || n from generate_series(1, 1500) as n"
    )
    conn.execute("update exports set status = 'cancelled'")
    conn.execute("insert into exports (query) values ('select pg_sleep(0)')")
    service = await start(work=False)
    got, found = 0, 0
    headers = {"Last-Event-ID": "0"}
    async with service.http.get("/events", headers=headers) as stream:
        async for line in stream.content:
            got += len(line)
            found += line.startswith(b"data:")
            if b'"pending"' in line:  # the newest
                break
    assert 100 < found
    assert 0.9 * feed.BACKLOG < got < 1.1 * feed.BACKLOG


async def test_streams_are_bounded_in_number(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STREAMS", 1)
    async with service.http.get("/events") as stream:
        assert stream.status == 200
        async with service.http.get("/events") as second:
            assert (second.status, second.headers["Retry-After"]) == (503, "5")
