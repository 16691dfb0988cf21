"""The streams of events show all changes at once."""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from service.queue.calls import Queue

from ..conftest import Service, Start, eventually
from ..processes import Process

pytestmark = pytest.mark.newest

SLOW = "select n, pg_sleep(0.002)::text from generate_series(1, {}) as n"


@dataclass
class Event:
    id: str
    kind: str
    data: dict[str, Any]


class Stream:
    """The events that a client reads, one by one."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.comments = 0

    async def event(self) -> Event | None:
        """Return the next event, or None when the stream has ended."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(20):
            async for line in self._answer.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if line == b"\n" and "data" in fields:
                    return Event(
                        fields["id"], fields["event"], json.loads(fields["data"])
                    )
                fields[name] = value
        return None

    async def until(self, kind: str, **data: Any) -> Event:
        """Return the next event of *kind* whose data have these values."""
        while (event := await self.event()) is not None:
            told = {name: event.data.get(name) for name in data}
            if event.kind == kind and told == data:
                return event
        raise AssertionError(f"the stream ended without {kind} {data}")

    async def rest(self) -> list[Event]:
        events = []
        while (event := await self.event()) is not None:
            events.append(event)
        return events


@contextlib.asynccontextmanager
async def watching(
    service: Service, path: str = "/events", last: str | None = None
) -> AsyncIterator[Stream]:
    headers = {"Last-Event-ID": last} if last else {}
    async with service.http.get(path, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-cache, no-transform"
        assert answer.headers["X-Accel-Buffering"] == "no"
        yield Stream(answer)


def number(event: Event) -> int:
    return int(event.id.partition("-")[0])


async def test_an_export_is_followed_to_its_end(service: Service) -> None:
    export = await service.export(query=SLOW.format(600))
    path = f"/exports/{export['jobId']}/events"
    async with watching(service, path) as stream:
        events = await stream.rest()
    statuses = [e.data["status"] for e in events if e.kind == "status"]
    assert statuses[-2:] == ["processing", "completed"]
    assert events[-1].data["status"] == "completed"
    assert events[-1].data["rows"] == 600
    seen = [e.data["rows"] for e in events if e.kind == "progress"]
    assert len(seen) >= 3 and seen == sorted(seen), "progress several times a second"
    ids = [number(event) for event in events]
    assert ids == sorted(set(ids))
    # EventSource reconnects after the end, and is told to stop.
    headers = {"Last-Event-ID": events[-1].id}
    async with service.http.get(path, headers=headers) as answer:
        assert (answer.status, await answer.read()) == (204, b"")
    async with watching(service, path, last=events[0].id) as stream:
        (only,) = await stream.rest()
    assert only.data["status"] == "completed"


async def test_all_exports_are_followed(service: Service, conn: Any) -> None:
    waiting = await service.export(runAt="2999-01-01T00:00:00Z")
    async with watching(service) as stream:
        first = await stream.event()
        assert first and first.data["jobId"] == waiting["jobId"]
        (id,) = conn.execute(
            "insert into exports default values returning id::text"
        ).fetchone()
        done = await stream.until("status", jobId=id, status="completed")
        conn.execute("update exports set priority = 9 where status = 'pending'")
        await stream.until("progress", jobId=waiting["jobId"], priority=9)
        conn.execute("select cancel_export(%s)", [waiting["jobId"]])
        await stream.until("status", jobId=waiting["jobId"], status="cancelled")
        await service.http.delete(f"/exports/{waiting['jobId']}")
        await stream.until("deleted", jobId=waiting["jobId"])
    # An export that ended while a client was away is sent when it returns.
    async with watching(service, last=done.id) as stream:
        again = await stream.event()
    assert again and again.data["jobId"] == id


async def test_pending_ones_know_their_place(start: Start) -> None:
    service = await start(work=False)
    ids = [(await service.export())["jobId"] for _ in range(3)]
    async with watching(service) as stream:
        events = [await stream.event() for _ in range(3)]
        assert [e and e.data["place"] for e in events] == [1, 2, 3]
        await service.http.post(f"/exports/{ids[0]}/cancel")
        await stream.until("progress", jobId=ids[1], place=1)
        await stream.until("progress", jobId=ids[2], place=2)


async def test_one_that_is_deleted_ends_its_stream(service: Service) -> None:
    export = await service.export(runAt="2999-01-01T00:00:00Z")
    async with watching(service, f"/exports/{export['jobId']}/events") as stream:
        await stream.event()
        await service.http.delete(f"/exports/{export['jobId']}")
        assert [event.kind for event in await stream.rest()] == ["deleted"]
    async with service.http.get(f"/exports/{export['jobId']}/events") as answer:
        assert answer.status == 404


async def test_many_watch_through_one_connection(
    service: Service, conn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read while there is no watcher."""
    reads = 0
    watch = Queue.watch

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal reads
        reads += 1
        return await watch(*args, **kwargs)

    monkeypatch.setattr(Queue, "watch", counted)
    await service.ended((await service.export())["jobId"])
    assert reads == 0

    async def follow() -> int:
        async with watching(service) as stream:
            ready.release()
            await stream.until(
                "status", jobId=await asyncio.shield(id), status="completed"
            )
        return 1

    ready = asyncio.Semaphore(0)
    id: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        followers = [group.create_task(follow()) for _ in range(40)]
        for _ in followers:
            await ready.acquire()
        id.set_result((await service.export(query=SLOW.format(300)))["jobId"])
    listeners = conn.execute(
        "select count(*) from pg_stat_activity where application_name = 'listener'"
        " and datname = current_database()"
    ).fetchone()
    assert listeners == (1,)
    assert reads < 40, "rows are read once for all of them"


async def test_a_lost_notification_is_made_up_for(service: Service, conn: Any) -> None:
    async with watching(service) as stream:
        export = await service.export(runAt="2999-01-01T00:00:00Z")
        await stream.until("status", jobId=export["jobId"], status="pending")
        conn.execute("alter table exports disable trigger announce_update")
        conn.execute("select cancel_export(%s)", [export["jobId"]])
        conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'listener' and datname = current_database()"
        )
        await stream.until("status", jobId=export["jobId"], status="cancelled")


async def test_anybody_may_notify_anything(service: Service, conn: Any) -> None:
    async with watching(service) as stream:
        conn.execute("notify exports, 'no id at all'")
        export = await service.export()
        await stream.until("status", jobId=export["jobId"], status="completed")
    async with service.http.get("/metrics") as answer:
        assert "export_listener_connected 1.0\n" in await answer.text()


async def test_who_comes_while_the_database_is_away_is_told_later(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = await service.export(runAt="2999-01-01T00:00:00Z")
    watch, failures = Queue.watch, [1, 2]

    async def away_at_first(*args: Any, **kwargs: Any) -> Any:
        if failures:
            failures.pop()
            raise psycopg.OperationalError("away")
        return await watch(*args, **kwargs)

    monkeypatch.setattr(Queue, "watch", away_at_first)
    async with watching(service, f"/exports/{export['jobId']}/events") as stream:
        first = await stream.event()
    assert first and first.data["jobId"] == export["jobId"] and not failures


async def test_polling_alone_serves_too(start: Start) -> None:
    service = await start(listen_database_url="none", poll_interval=0.2)
    async with watching(service) as stream:
        export = await service.export()
        await stream.until("status", jobId=export["jobId"], status="completed")


async def test_who_does_not_read_is_dropped(start: Start) -> None:
    service = await start(work=False)
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with watching(service) as stream:
            query = f"select '{'x' * 90_000}' as x"
            for _ in range(60):
                id = (await service.export(query=query))["jobId"]
                await stream.until("status", jobId=id)

            async def is_alone() -> bool:
                async with service.http.get("/metrics") as answer:
                    return "export_subscribers 1.0\n" in await answer.text()

            await eventually(is_alone)


async def test_streams_end_when_the_service_stops(
    start: Start, database: str, exports_dir: Any
) -> None:
    with Process(database, exports_dir, "serve", drain_timeout=0) as process:
        url = await asyncio.to_thread(process.url)
        other = await start(serve=False, work=False)
        service = Service(url, other.http, other.settings, database)
        async with watching(service, f"{url}/events") as stream:
            process.signal(signal.SIGTERM)
            assert await stream.rest() == []
        assert await asyncio.to_thread(process.end) == 0
