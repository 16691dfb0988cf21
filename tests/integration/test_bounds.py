"""A slow, silent or failing party costs a bounded time, and does not harm others."""

import asyncio
import errno
import gzip
import json
import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import psycopg
import pytest
from psycopg.pq import ExecStatus

from service.api import previews
from service.attempt import describe, is_transient
from service.copying import command, statement
from service.logs import PlainFormatter
from service.postgres import libpq, reader
from service.storage import CannotWrite

from ..conftest import Service, Start, eventually
from ..processes import Process

pytestmark = pytest.mark.newest
Conn = psycopg.Connection[Any]
ENDLESS = "select generate_series(1, 1000000000) as n, repeat('x', 20) as pad"


@pytest.fixture(autouse=True)
def no_errors_logged(caplog: pytest.LogCaptureFixture) -> None:
    """In these tests, errors in the log are expected."""


@contextmanager
def silent(pid: int) -> Iterator[None]:
    """Stop the backend while the block lasts; its connection stays open."""
    os.kill(pid, signal.SIGSTOP)
    # In case our whole process hangs, another process continues the backend.
    watchdog = subprocess.Popen(["sh", "-c", f"sleep 60; kill -CONT {pid}"])
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        watchdog.kill()
        watchdog.wait()


async def backend(conn: Conn, condition: str) -> int:
    """Wait for a backend of csv_reader that meets *condition*; return its process id."""

    async def found() -> Any:
        return conn.execute(
            "select pid from pg_stat_activity where datname = current_database()"
            f" and usename = 'csv_reader' and {condition}"
        ).fetchone()

    return int((await eventually(found))[0])


async def answers(service: Service) -> None:
    async with service.http.get("/health") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("when", ["begin", "copy"])
@pytest.mark.parametrize("ends_by", ["cancel", "duration"])
async def test_a_silent_source_costs_one_slot_for_a_bounded_time(
    start: Start, conn: Conn, when: str, ends_by: str
) -> None:
    limits = {"max_export_duration": 1} if ends_by == "duration" else {}
    service = await start(worker_slots=1, **limits)
    if when == "begin":
        first = await service.export(query="select 1")
        assert (await service.ended(first["jobId"]))["status"] == "completed"
        pid = await backend(conn, "state = 'idle'")
        id = None
    else:
        id = (await service.export(query=ENDLESS))["jobId"]
        pid = await backend(conn, "query like 'COPY%'")
    with silent(pid):
        if id is None:
            id = (await service.export(query="select 2"))["jobId"]

        async def begun() -> bool:
            await answers(service)
            async with service.http.get(f"/exports/{id}") as answer:
                return (await answer.json())["status"] != "pending"

        await eventually(begun)
        if ends_by == "cancel":
            async with service.http.post(f"/exports/{id}/cancel") as answer:
                assert answer.status == 200
        ended = await service.ended(id)
        assert ended["status"] == ("cancelled" if ends_by == "cancel" else "failed")
        # The slot is free again, while the backend is still silent.
        other = await service.export(query="select 3")
        assert (await service.ended(other["jobId"]))["status"] == "completed"
        await answers(service)


async def test_a_kept_connection_that_went_silent_is_replaced(
    start: Start, conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "PATIENCE", 0.5)
    service = await start(worker_slots=1)
    await service.ended((await service.export(query="select 1"))["jobId"])
    with silent(await backend(conn, "state = 'idle'")):
        ended = await service.ended((await service.export(query="select 2"))["jobId"])
        assert (ended["status"], ended["attempt"]) == ("completed", 1)


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
async def test_what_somebody_else_ended_is_tried_again(
    start: Start, conn: Conn, function: str
) -> None:
    service = await start(worker_slots=1)
    id = (await service.export(query="select pg_sleep(0.5)::text, 1 as n"))["jobId"]
    pid = await backend(conn, "query like 'COPY%' and wait_event = 'PgSleep'")
    conn.execute(f"select {function}({pid})")

    async def again() -> bool:
        conn.execute("update exports set run_at = now() where status = 'pending'")
        async with service.http.get(f"/exports/{id}") as answer:
            return bool((await answer.json())["status"] == "completed")

    await eventually(again)


@pytest.mark.parametrize(
    "module, before",
    [
        (statement, "check"),
        (command, "copy_command"),
        (statement, "check_meaning"),
    ],
)
async def test_a_connection_lost_between_two_statements_is_not_the_exports_fault(
    start: Start,
    conn: Conn,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    before: str,
) -> None:
    lost: list[int] = []
    real = getattr(module, before)

    def lose(*arguments: Any, **options: Any) -> Any:
        if not lost:
            with psycopg.connect(conn.info.dsn, autocommit=True) as other:
                row = other.execute(
                    "select pid from pg_stat_activity where usename = 'csv_reader'"
                    " and datname = current_database() and state <> 'idle'"
                ).fetchone()
                assert row
                lost.append(row[0])
                # It returns true once the backend has ended.
                assert other.execute(
                    "select pg_terminate_backend(%s, 10000)", lost
                ).fetchone() == (True,)
        return real(*arguments, **options)

    monkeypatch.setattr(module, before, lose)
    service = await start(worker_slots=1)
    query = "select * from users order by id limit 10"
    id = (await service.export(query=query))["jobId"]

    async def again() -> bool:
        conn.execute("update exports set run_at = now() where status = 'pending'")
        async with service.http.get(f"/exports/{id}") as answer:
            export = await answer.json()
        assert export["status"] != "failed", export["error"]
        return bool(export["status"] == "completed")

    await eventually(again)
    assert lost


def test_an_error_that_no_server_sent_is_of_the_connection(conn: Conn) -> None:
    """If the server ends a session between two statements, libpq drops the reason."""
    nothing_said = conn.pgconn.make_empty_result(ExecStatus.FATAL_ERROR)
    assert is_transient(libpq.error_of(nothing_said))
    refused = conn.pgconn.exec_(b"select no_such_column")
    assert not is_transient(libpq.error_of(refused))


async def test_a_statement_timeout_is_the_exports_own_fault(
    start: Start, conn: Conn
) -> None:
    name = conn.info.dbname
    conn.execute(
        f"alter role csv_reader in database {name} set statement_timeout = '200ms'"
    )
    try:
        service = await start()
        ended = await service.ended(
            (await service.export(query="select pg_sleep(60)"))["jobId"]
        )
        assert (ended["status"], ended["attempt"]) == ("failed", 1)
        assert "statement timeout" in ended["error"]["message"]
    finally:
        conn.execute(f"alter role csv_reader in database {name} reset all")


async def test_notifications_from_anybody_cost_few_heartbeats(
    start: Start, conn: Conn
) -> None:
    service = await start(heartbeat=3600, lease=7200)
    id = (await service.export(query=ENDLESS))["jobId"]
    await backend(conn, "query like 'COPY%'")
    conn.execute("create table beats (at timestamptz)")
    conn.execute(
        "create function beat() returns trigger language plpgsql as $$ begin"
        " if new.lease_expires_at > old.lease_expires_at then"
        " insert into beats values (clock_timestamp()); end if; return null; end $$;"
        " create trigger beat after update on exports"
        " for each row execute function beat();"
        " grant insert on beats to public"
    )
    for _ in range(300):
        conn.execute("notify exports")

    async def heard() -> bool:
        row = conn.execute("select count(*) > 0 from beats").fetchone()
        return bool(row and row[0])

    await eventually(heard)
    gaps = conn.execute(
        "select count(*) from (select at - lag(at) over (order by at) as gap from beats)"
        " as _ where gap < '0.1 s'"
    ).fetchone()
    assert gaps == (0,)
    conn.execute("select cancel_export(%s)", [id])


async def test_figures_never_run_backwards(start: Start, conn: Conn) -> None:
    service = await start(heartbeat=3600, lease=7200)
    query = "select generate_series(1, 100000) as n, repeat('x', 500) as pad"
    id = (await service.export(query=query))["jobId"]
    seen: list[tuple[int, int]] = []

    async def ended() -> bool:
        async with service.http.get(f"/exports/{id}") as answer:
            export = await answer.json()
        seen.append((export["rows"], export["bytes"]))
        return bool(export["status"] == "completed")

    await eventually(ended)
    assert seen[-1][0] == 100_000
    assert seen == sorted(seen)


@pytest.mark.parametrize("how", ["failed", "cancelled"])
async def test_figures_are_kept_of_what_was_cut_short(
    start: Start, conn: Conn, how: str
) -> None:
    service = await start(heartbeat=3600, lease=7200)
    query = (
        "select 1 / (200000 - n) as x, md5(n::text) from generate_series(1, 300000) n"
        if how == "failed"
        else ENDLESS
    )
    id = (await service.export(query=query))["jobId"]

    async def flows() -> bool:
        async with service.http.get(f"/exports/{id}") as answer:
            export = await answer.json()
        return bool(export["rows"] > 1000)

    await eventually(flows)
    if how == "cancelled":
        conn.execute("select cancel_export(%s)", [id])
    ended = await service.ended(id)
    assert ended["status"] == how
    assert ended["rows"] > 1000 and ended["bytes"] > 10_000


@pytest.mark.parametrize("damage", ["missing", "shorter", "a folder"])
async def test_a_file_that_is_not_what_it_was_is_our_fault_and_in_the_log(
    service: Service, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    id = (await service.ended((await service.export())["jobId"]))["jobId"]
    path = service.settings.exports_dir / f"{id}-1.csv"
    if damage == "shorter":
        os.truncate(path, 3)
    else:
        path.unlink()
    if damage == "a folder":
        path.mkdir()
    async with service.http.get(f"/exports/{id}/download") as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert str(path) not in await answer.text()
    assert str(path) in caplog.text
    if damage == "a folder":
        path.rmdir()


async def test_a_worker_that_cannot_write_claims_nothing(
    start: Start, conn: Conn, exports_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = await start(poll_interval=0.1)
    exports_dir.rmdir()
    exports_dir.write_text("in the way")
    id = (await service.export(query="select 1"))["jobId"]

    async def said() -> bool:
        return "nothing is claimed" in caplog.text

    await eventually(said)
    async with service.http.get("/health") as answer:
        assert (await answer.json())["status"] == "degraded"
    exports_dir.unlink()
    exports_dir.mkdir()
    ended = await service.ended(id)
    assert ended["status"] == "completed"
    assert conn.execute("select failures from exports").fetchone() == (0,)


async def test_a_file_that_cannot_be_made_is_handed_back_uncounted(
    start: Start, conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.worker.PAUSE_WITHOUT_FILE", 0.1)
    service = await start(worker_slots=1, poll_interval=0.1)
    with conn.transaction():
        # This folder has the name of the first attempt's partial file.
        row = conn.execute(
            "insert into exports (query) values ('select 2') returning id"
        ).fetchone()
        assert row
        (service.settings.exports_dir / f".{row[0]}-1.csv.partial").mkdir()
    ended = await service.ended(str(row[0]))
    assert (ended["status"], ended["attempt"]) == ("completed", 2)
    assert [attempt["outcome"] for attempt in ended["history"]] == [
        "released", "completed",
    ]  # fmt: skip
    (service.settings.exports_dir / f".{row[0]}-1.csv.partial").rmdir()


@pytest.mark.parametrize(
    "error, message",
    [
        (CannotWrite(errno.ENOSPC, "No space left"), "the file cannot be written: No"),
        (OSError(errno.EMFILE, "Too many open files"), "the worker cannot go on: Too"),
        (
            psycopg.OperationalError("the server said nothing"),
            "the server said nothing",
        ),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_an_error_says_what_went_wrong(error: Exception, message: str) -> None:
    assert describe(error).message.startswith(message)


async def test_a_compressed_body_is_refused(service: Service) -> None:
    body = gzip.compress(json.dumps({"query": "select 1"}).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with service.http.post("/exports", data=body, headers=headers) as answer:
        assert answer.status == 415
        assert answer.headers["Accept-Encoding"] == "identity"
        assert "Content-Encoding" in (await answer.json(content_type=None))["detail"]


@pytest.mark.parametrize(
    "setting, query, message",
    [
        (
            "temp_file_limit = '64kB'",
            "select n from generate_series(1, 500000) as n order by n::text desc",
            'temporary file size exceeds "temp_file_limit" (64kB)',
        ),
        (
            "statement_timeout = '300ms'",
            "select pg_sleep(30)::text as x",
            "canceling statement due to statement timeout",
        ),
    ],
)
async def test_limits_of_the_role_hold_and_end_the_export(
    start: Start, conn: Conn, setting: str, query: str, message: str
) -> None:
    row = conn.execute("select current_database()").fetchone()
    assert row
    for one in (setting, "work_mem = '1234kB'"):
        conn.execute(f"alter role csv_reader in database {row[0]} set {one}".encode())
    service = await start()
    export = await service.ended((await service.export(query=query))["jobId"])
    assert (export["status"], export["attempt"]) == ("failed", 1)
    assert export["error"]["message"] == message
    if setting.startswith("temp_file_limit"):
        dry_run = "/exports?dryRun=true"
        async with service.http.post(dry_run, json={"query": query}) as answer:
            assert answer.status == 422
            assert (await answer.json())["detail"] == message
    id = (await service.export(query="select current_setting('work_mem') as x"))[
        "jobId"
    ]
    await service.ended(id)
    assert (service.settings.exports_dir / f"{id}-1.csv").read_text() == "x\n1234kB\n"


async def test_nothing_waits_for_previews(service: Service) -> None:
    id = (await service.ended((await service.export())["jobId"]))["jobId"]
    slow = {"query": "select pg_sleep(60)"}

    async def preview() -> int:
        async with service.http.post("/exports?dryRun=true", json=slow) as answer:
            return answer.status

    asked = [asyncio.create_task(preview()) for _ in range(60)]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    await answers(service)
    async with service.http.get(f"/exports/{id}/download") as answer:
        assert answer.status == 200
        await answer.read()
    statuses = await asyncio.gather(*asked)
    allowed = previews.AT_ONCE + previews.WAITING
    assert previews.AT_ONCE <= statuses.count(422) <= allowed
    assert statuses.count(503) >= 60 - allowed


async def test_alive_and_ready_are_two_answers(service: Service) -> None:
    for path in ("/health/live", "/health/ready"):
        async with service.http.get(path) as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "ok"})


def test_nobody_writes_lines_of_the_log_but_we() -> None:
    forged = "no such thing\n2026-01-01 INFO all is well\r\x1b[2J\u2028\x85"
    record = logging.LogRecord("x", logging.ERROR, "", 0, "failed: %s", (forged,), None)
    text = PlainFormatter("%(message)s").format(record)
    assert text == (
        r"failed: no such thing\n2026-01-01 INFO all is well\r\x1b[2J\u2028\x85"
    )
    try:
        raise ValueError(forged)
    except ValueError as error:
        record.exc_info = (ValueError, error, error.__traceback__)
    first, *trace = PlainFormatter("%(message)s").format(record).splitlines()
    assert trace and all(line.startswith("  ") for line in trace)
    assert "\x1b" not in "".join(trace)


async def test_a_submit_ends_in_the_server_when_its_process_is_gone(
    database: str, exports_dir: Path, conn: Conn
) -> None:
    """Nobody would hear the answer; and no export is left behind."""
    conn.execute(
        "create function public.slow() returns integer immutable language plpgsql"
        " as 'begin perform pg_sleep(60); return 1; end'"
    )

    async def is_planning() -> bool:
        row = conn.execute(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and state = 'active' and query like 'insert into exports%'"
        ).fetchone()
        return row != (0,)

    async def is_gone() -> bool:
        return not await is_planning()

    settings: dict[str, Any] = {"min_free_disk": 0, "submit_timeout": 60}
    with Process(database, exports_dir, "serve", "--slots", "0", **settings) as process:
        async with aiohttp.ClientSession(process.url()) as http:
            wanted = {"query": "select slow() as n"}
            asking = asyncio.ensure_future(http.post("/exports", json=wanted))
            await eventually(is_planning)
            process.kill()
            with pytest.raises(aiohttp.ClientError):
                await asking
        await eventually(is_gone)
    assert conn.execute("select from exports").rowcount == 0
