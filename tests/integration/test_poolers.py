"""The service through PgBouncer in transaction mode, with LISTEN elsewhere or polling."""

import asyncio
import os
import shutil
import socket
import subprocess
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ..conftest import Service, Start, eventually

BOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
HOURS = 36_000

pytestmark = [
    pytest.mark.newest,
    pytest.mark.skipif(
        BOUNCER is None and "REQUIRE_POSTGRES" not in os.environ,
        reason="pgbouncer is not installed; .ci/run installs it",
    ),
]


@pytest.fixture
async def pooled(database: str, scratch: Path) -> Any:
    """The conninfo of the database through a new pooler."""
    assert BOUNCER
    folder = scratch / f"bouncer-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    folder.chmod(0o777)
    server = conninfo_to_dict(database)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "users").write_text('"postgres" ""\n"csv_reader" ""\n')
    (folder / "ini").write_text(
        f"[databases]\n* = host={server['host']} port={server['port']}\n"
        "[pgbouncer]\npool_mode = transaction\nauth_type = trust\n"
        f"auth_file = {folder}/users\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"unix_socket_dir =\nlogfile = {folder}/log\n"
    )
    # Only the server's user can reach the socket in the server's folder.
    user = ["-u", Path(str(server["host"])).owner()] if os.geteuid() == 0 else []
    bouncer = subprocess.Popen(
        [BOUNCER, "-q", *user, str(folder / "ini")],
        stderr=subprocess.DEVNULL,
    )
    url = make_conninfo(database, host="127.0.0.1", port=port)
    try:

        async def answers() -> bool:
            assert bouncer.poll() is None, (folder / "log").read_text()
            try:
                psycopg.connect(url).close()
            except psycopg.OperationalError:
                return False
            return True

        await eventually(answers)
        yield url
    finally:
        bouncer.kill()
        bouncer.wait()


async def test_listen_goes_around_the_pooler(
    pooled: str, start: Start, database: str
) -> None:
    service = await start(
        database_url=pooled, listen_database_url=database, poll_interval=HOURS
    )
    await use(service)


async def test_polling_alone_is_enough(pooled: str, start: Start) -> None:
    service = await start(
        database_url=pooled, listen_database_url="none", poll_interval=0.1
    )
    await use(service)


async def test_a_listener_that_hears_nothing_says_so(
    pooled: str,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("service.queue.listener.PATIENCE", 0.5)
    service = await start(database_url=pooled, poll_interval=0.1)

    async def said() -> bool:
        return "Set LISTEN_DATABASE_URL" in caplog.text

    await eventually(said)
    async with service.http.get("/metrics") as answer:
        assert "export_listener_connected 0.0\n" in await answer.text()
    async with service.http.get("/events") as stream:
        await shown(service, stream)
    await use(service)


async def test_without_notifications_nothing_is_told_twice(
    pooled: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.queue.feed.BLIND_TICK", 0.05)
    service = await start(
        database_url=pooled, listen_database_url="none", poll_interval=0.1
    )
    async with service.http.get("/events") as stream:
        first = await shown(service, stream)
        slow = await service.export(query="select pg_sleep(1)::text")
        lines = await until(stream, slow["jobId"])
        assert not [line for line in lines if first in line]


async def shown(service: Service, stream: Any) -> str:
    """Wait until the stream shows that a new export has completed; return its id."""
    id = (await service.export(query="select 1"))["jobId"]
    await until(stream, id)
    return str(id)


async def until(stream: Any, id: str) -> list[str]:
    """Read the stream until *id* is completed; return the lines."""
    lines = []
    async with asyncio.timeout(20):
        async for line in stream.content:
            lines.append(line.decode())
            if f'"{id}"' in lines[-1] and '"status":"completed"' in lines[-1]:
                break
    return lines


async def use(service: Service) -> None:
    """Export, cancel and get refused, repeatedly on the same few connections."""
    for _ in range(5):
        export = await service.ended((await service.export())["jobId"])
        assert (export["status"], export["rows"]) == ("completed", 2_000)
    endless = await service.export(query="select generate_series(1, 1000000000)")
    url = f"/exports/{endless['jobId']}"

    async def running() -> Any:
        async with service.http.get(url) as answer:
            return (await answer.json())["bytes"]

    await eventually(running)
    async with service.http.post(f"{url}/cancel") as answer:
        assert (await answer.json())["status"] == "cancelled"
    async with service.http.post("/exports", json={"query": "select no"}) as answer:
        assert answer.status == 422
