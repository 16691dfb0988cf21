"""Connections that end, servers that restart, and networks that stall."""

import asyncio
import json
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from service.postgres import embedded, schema

from .world import LARGE, SLOW, World, eventually

pytestmark = pytest.mark.newest

ENDLESS = "select generate_series(1, 1000000000) as n"


@pytest.mark.parametrize(
    "which",
    [
        "application_name = 'listener'",
        "application_name like 'export %'",
        "application_name = '' and usename = 'postgres'",
    ],
    ids=["listener", "source", "pool"],
)
def test_terminated_backends(world: World, which: str) -> None:
    (id,) = world.submit(SLOW)
    process = world.start(lease=10)
    world.until_copying(id)
    ended = world.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        f" where datname = current_database() and pid <> pg_backend_pid() and {which}"
    )
    assert ended
    world.settle()
    (export,) = world.rows("select * from exports")
    if "export" in which:
        assert export["history"][0]["error"]["sqlstate"] == "57P01"
    else:
        assert export["attempt"] == 1
    world.submit("select 2 as n")
    world.settle()
    assert process.running()
    assert world.statuses() == {"completed": 2}
    world.check()


@pytest.fixture
def restarted(
    server: str, scratch: Path, exports_dir: Path
) -> Iterator[tuple[embedded.Postgres, World]]:
    """A world with its own server, which the test may stop."""
    postgres = embedded.Postgres(scratch / uuid.uuid4().hex[:8])
    with postgres as conninfo:
        schema.migrate(conninfo)
        with World(conninfo, exports_dir) as world:
            yield postgres, world


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_a_server_that_is_away_for_a_while(
    restarted: tuple[embedded.Postgres, World], how: signal.Signals
) -> None:
    postgres, world = restarted
    ids = world.submit(*[SLOW, LARGE] * 3)
    api = world.start("serve", "--slots", "0")
    url = api.url()
    worker = world.start()  # last, because the first export takes only some seconds
    world.until_copying(ids[0])
    postgres.stop(how)
    for path in ("/health", "/exports", f"/exports/{ids[0]}"):
        status, headers, body = get(url + path)
        assert status == 503, body
        assert headers["Content-Type"] == "application/problem+json"
        assert int(headers["Retry-After"]) > 0
    postgres.start()
    eventually(lambda: get(f"{url}/health")[0] == 200, "health")
    for _ in range(10):
        assert get(f"{url}/exports")[0] == 200
    world.settle()
    assert worker.running() and api.running()
    assert world.statuses() == {"completed": 6}
    world.check()


def test_a_process_that_drains_is_alive_but_not_ready(world: World) -> None:
    (id,) = world.submit(
        "select n, pg_sleep(0.02)::text from generate_series(1, 500) n"
    )
    process = world.start("serve", drain_timeout=40)
    url = process.url()
    world.until("select from exports where id = %s and status = 'processing'", id)
    assert get(f"{url}/health/ready")[0] == 200
    process.signal(signal.SIGTERM)
    eventually(lambda: get(f"{url}/health/ready")[0] == 503, "it not to be ready")
    assert get(f"{url}/health/live")[0] == 200
    assert process.end() == 0
    assert world.statuses() == {"completed": 1}


def get(url: str) -> tuple[int, Any, Any]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.load(error)


class Proxy:
    """Passes TCP on to the server's socket, until it is told to stall or to reset."""

    def __init__(self, conninfo: str) -> None:
        params = conninfo_to_dict(conninfo)
        self._server = f"{params['host']}/.s.PGSQL.{params['port']}"
        self._flowing = threading.Event()
        self._flowing.set()
        self._writers: list[asyncio.StreamWriter] = []
        self._loop = asyncio.new_event_loop()
        self._listening = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0)
        )
        port = self._listening.sockets[0].getsockname()[1]
        self.conninfo = make_conninfo(conninfo, host="127.0.0.1", port=port)
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._server)
        self._writers += [writer, server_writer]
        await asyncio.gather(
            self._pass_on(reader, server_writer), self._pass_on(server_reader, writer)
        )

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(65_536):
                while not self._flowing.is_set():
                    await asyncio.sleep(0.01)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def stall(self) -> None:
        """Pass on nothing, but keep every connection open."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def reset(self) -> None:
        """Reset every connection."""

        def drop() -> None:
            while self._writers:
                writer = self._writers.pop()
                raw = writer.get_extra_info("socket")
                if raw is not None and raw.family == socket.AF_INET:
                    writer.transport.abort()

        self._loop.call_soon_threadsafe(drop)

    def close(self) -> None:
        async def end() -> None:
            self._flowing.set()
            self._listening.close()
            for writer in self._writers:
                writer.transport.abort()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.wait(tasks, timeout=5) if tasks else None
            self._loop.stop()

        asyncio.run_coroutine_threadsafe(end(), self._loop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def proxy(world: World) -> Iterator[Proxy]:
    proxy = Proxy(world.database)
    yield proxy
    proxy.close()


def test_a_network_that_stalls(world: World, proxy: Proxy) -> None:
    """The far worker stops by its own clock, and another worker takes over."""
    (id,) = world.submit(SLOW)
    far = world.start(database=proxy.conninfo)
    world.until_copying(id)
    proxy.stall()
    world.start()
    far.until("attempt 1 dropped")
    world.settle()
    proxy.flow()
    proxy.reset()
    assert far.running()
    world.check()


def test_a_network_that_stalls_before_the_copy(world: World, proxy: Proxy) -> None:
    """No connection of the far worker hangs for ever, whatever it was doing."""
    far = world.start(database=proxy.conninfo)
    proxy.stall()
    ids = world.submit(*["select 1 as n"] * 20)
    world.start()
    world.settle()
    proxy.flow()
    proxy.reset()
    world.submit(LARGE, LARGE)
    world.settle()
    assert len(ids) == 20 and far.running()
    world.check()


def test_a_network_that_resets(world: World, proxy: Proxy) -> None:
    ids = world.submit(*[LARGE, SLOW] * 3)
    far = world.start(database=proxy.conninfo)
    for _ in range(3):
        world.until(
            "select from live_exports where status = 'processing' and rows > 100"
        )
        proxy.reset()
        world.hurry()
    world.settle()
    assert far.running()
    assert sum(world.statuses().values()) == len(ids)
    world.check()


# The scenarios of a public harness, smaller: five of chaos, four of pressure.


def test_chaos_a_worker_killed_and_restarted(world: World) -> None:
    world.submit(*["select 1 as n", LARGE] * 10)
    world.start().kill()
    world.start()
    world.settle()
    assert world.statuses() == {"completed": 20}
    world.check()


def test_chaos_the_server_stopped_and_started(
    restarted: tuple[embedded.Postgres, World],
) -> None:
    postgres, world = restarted
    world.submit(*["select 1 as n", LARGE] * 10)
    world.start()
    for _ in range(2):
        world.until("select 1 as n from exports where status = 'processing' limit 1")
        postgres.stop()
        postgres.start()
        world.submit("select 2 as n")
    world.settle()
    assert world.statuses() == {"completed": 22}
    world.check()


def test_chaos_a_worker_killed_again_and_again(world: World) -> None:
    world.submit(*["select 1 as n", LARGE] * 10)
    world.start()
    for _ in range(4):
        victim = world.start()
        world.submit(LARGE)
        victim.kill()
        world.hurry()
    world.settle()
    assert world.statuses() == {"completed": 24}
    world.check()


def test_chaos_a_stream_of_terminated_backends(world: World) -> None:
    world.submit(*["select 1 as n", LARGE] * 15, max_attempts=100)
    process = world.start()
    for _ in range(40):
        world.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
            " order by random() limit 1"
        )
        world.hurry()
        time.sleep(0.05)  # this rate of submits is the scenario
    world.settle()
    assert process.running()
    assert not world.rows("select error, history from exports where status = 'failed'")
    assert world.statuses() == {"completed": 30}
    world.check()


def test_chaos_many_idle_connections(world: World) -> None:
    held = [psycopg.connect(world.database) for _ in range(100)]
    world.submit(*["select 1 as n", LARGE] * 5)
    world.start()
    world.settle()
    for conn in held:
        conn.close()
    assert world.statuses() == {"completed": 10}
    world.check()


def test_pressure_an_idle_transaction_pins_the_horizon(world: World) -> None:
    with psycopg.connect(world.database) as idle:
        idle.execute("select txid_current(), count(*) from exports")
        world.submit(*["select 1 as n"] * 100)
        world.start(worker_slots=4)
        world.settle()
    assert world.statuses() == {"completed": 100}
    world.check()


def test_pressure_overlapping_readers(world: World) -> None:
    readers = []
    world.start(worker_slots=4)
    for _ in range(5):
        reader = psycopg.connect(world.database)
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("select count(*) from exports")
        readers.append(reader)
        world.submit(*["select 1 as n"] * 20)
    world.settle()
    for reader in readers:
        reader.close()
    assert world.statuses() == {"completed": 100}
    world.check()


def test_pressure_a_high_load_on_a_backlog(world: World) -> None:
    load(world, 600)
    for _ in range(2):
        world.start(worker_slots=4)
    world.settle()
    assert world.statuses() == {"completed": 600}
    world.check()


def test_pressure_a_kill_under_that_load(world: World) -> None:
    load(world, 600)
    victim = world.start(worker_slots=4)
    world.start(worker_slots=4)
    world.until(
        "select count(*) from exports where status = 'completed' having count(*) > 50"
    )
    victim.kill()
    world.settle()
    assert world.statuses() == {"completed": 600}
    world.check()


def load(world: World, size: int) -> None:
    world.rows(
        "insert into exports (query) select 'select ' || n || ' as n'"
        " from generate_series(1, 3) as n, generate_series(1, %s) returning id",
        size // 3,
    )
