"""Workers wake up, poll, share a database, and drain."""

import asyncio
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from service.config import Settings
from service.metrics import Metrics
from service.postgres import reader
from service.postgres.pool import open_pool
from service.queue.calls import Queue
from service.queue.listener import Listener
from service.storage import Directory
from service.worker import Worker

from ..conftest import Service, Start, eventually
from ..processes import Process

HOURS = 36_000


async def test_an_idle_worker_wakes_by_the_notification(
    start: Start, conn: Any
) -> None:
    """It polls once in ten hours, so only NOTIFY can have woken it."""
    service = await start(poll_interval=HOURS)
    for _ in range(3):
        row = conn.execute("insert into exports default values returning id").fetchone()
        assert (await service.ended(str(row[0])))["status"] == "completed"


async def listener_pid(conn: Any) -> Any:
    row = conn.execute(
        "select pid from pg_stat_activity where application_name = 'listener'"
        " and datname = current_database() and query like 'listen %'"
    ).fetchone()
    return row and row[0]


async def test_what_was_inserted_while_nobody_listened_is_found(
    start: Start, conn: Any
) -> None:
    """The server ends the LISTEN connection; the reconnect wakes every slot."""
    service = await start(poll_interval=HOURS)
    for _ in range(3):
        old = await eventually(lambda: listener_pid(conn))
        conn.execute("select pg_terminate_backend(%s)", [old])
        row = conn.execute("insert into exports default values returning id").fetchone()
        assert (await service.ended(str(row[0])))["status"] == "completed"
        new = await eventually(lambda: listener_pid(conn))
        assert new != old


async def test_without_any_notification_the_poll_finds_it(
    start: Start, conn: Any
) -> None:
    conn.execute("alter table exports disable trigger announce_insert")
    service = await start(poll_interval=0.2)
    row = conn.execute("insert into exports default values returning id").fetchone()
    assert (await service.ended(str(row[0])))["status"] == "completed"


async def test_a_notification_that_is_none_of_ours_does_no_harm(
    start: Start, conn: Any
) -> None:
    service = await start()
    conn.execute("notify exports, 'no uuid'")
    conn.execute("notify exports_pending, 'whatever'")
    assert (await service.ended((await service.export())["jobId"]))[
        "status"
    ] == "completed"


async def test_a_lost_worker_is_rescued_by_any_other(start: Start, conn: Any) -> None:
    conn.execute("insert into exports default values")
    (id,) = conn.execute("select id from claim_exports('died', '0 s')").fetchone()
    service = await start(lease=1, heartbeat=0.2)
    export = await service.ended(str(id))
    assert (export["status"], export["attempt"]) == ("completed", 2)


async def test_a_worker_that_lost_its_lease_drops_what_it_wrote(
    start: Start, conn: Any
) -> None:
    service = await start(heartbeat=0.1, drain_timeout=0)
    id = (await service.export(query="select generate_series(1, 1000000000)"))["jobId"]

    async def processing() -> Any:
        return conn.execute("select from exports where status = 'processing'").rowcount

    await eventually(processing)
    conn.execute("select release_export(%s, 1)", [id])

    async def again() -> bool:
        return conn.execute("select attempt from exports").fetchone() == (2,)

    await eventually(again)

    async def only_the_second() -> bool:
        return [p.name for p in service.settings.exports_dir.iterdir()] == [
            f".{id}-2.csv.partial"
        ]

    await eventually(only_the_second)
    conn.execute("select cancel_export(%s)", [id])


@pytest.mark.newest
async def test_sixteen_workers_export_two_thousand_once_each(
    database: str, exports_dir: Path, conn: Any
) -> None:
    conn.execute(
        "insert into exports (query)"
        " select 'select ' || n || ' as n' from generate_series(1, 2000) n"
    )
    settings = Settings(
        database_url=database,
        exports_dir=exports_dir,
        worker_slots=1,
        poll_interval=HOURS,
    )
    readers = reader.Readers(settings.model_copy(update={"worker_slots": 16}), database)
    storage = Directory(exports_dir)
    async with open_pool(database, 20) as pool:
        queue, listener = Queue(pool), Listener(database)
        workers = [
            Worker(settings, queue, listener, storage, readers, Metrics())
            for _ in range(16)
        ]
        for n, worker in enumerate(workers):
            worker.name = f"worker {n}"
        running = [asyncio.create_task(worker.run()) for worker in workers]

        async def done() -> bool:
            row = conn.execute(
                "select count(*) from exports where status in ('pending', 'processing')"
            ).fetchone()
            return bool(row == (0,))

        await eventually(done, patience=100)
        for worker in workers:
            worker.drain()
        await asyncio.gather(*running)
        readers.close()
    ended = conn.execute(
        "select status, attempt, failures, count(*) from exports group by 1, 2, 3"
    )
    assert ended.fetchall() == [("completed", 1, 0, 2000)]
    content = Counter(path.read_text() for path in exports_dir.iterdir())
    assert content == {f"n\n{n}\n": 1 for n in range(1, 2001)}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_exports_finish(
    database: str, exports_dir: Path, conn: Any, how: signal.Signals
) -> None:
    conn.execute("insert into exports (query) values ('select pg_sleep(0.5)')")
    with Process(database, exports_dir, "worker", drain_timeout=30) as process:
        process.until("working")
        while (
            conn.execute("select from exports where status = 'processing'").rowcount
            == 0
        ):
            pass
        conn.execute("insert into exports (query) values ('select 2')")
        process.signal(how)
        process.until("completed")
        assert process.end() == 0
    assert conn.execute(
        "select status from exports order by created_at"
    ).fetchall() in (
        [("completed",), ("pending",)],
        [("completed",), ("completed",)],  # the second slot may have been quicker
    )


def test_after_the_drain_timeout_they_are_handed_back(
    database: str, exports_dir: Path, conn: Any
) -> None:
    conn.execute("insert into exports (query) values ('select pg_sleep(600)')")
    with Process(database, exports_dir, "worker", drain_timeout=0.2) as process:
        process.until("working")
        while not conn.execute(
            "select from pg_stat_activity where wait_event = 'PgSleep'"
            " and datname = current_database()"
        ).rowcount:
            pass
        process.signal(signal.SIGTERM)
        process.until("handed back")
        assert process.end() == 0
    row = conn.execute("select status, attempt, failures from exports").fetchone()
    assert row == ("pending", 1, 0)
    assert list(exports_dir.iterdir()) == []


async def test_two_processes_share_a_database(
    start: Start, database: str, exports_dir: Path, conn: Any
) -> None:
    """The API in one process, workers in two others."""
    api: Service = await start(work=False)
    slow = "select pg_sleep(0.2)"
    with Process(database, exports_dir, "worker", "--slots", "1") as one:
        with Process(database, exports_dir, "worker", "--slots", "1") as other:
            one.until("working")
            other.until("working")
            ids = [(await api.export(query=slow))["jobId"] for _ in range(4)]
            for id in ids:
                assert (await api.ended(id))["status"] == "completed"
            for process in (one, other):
                process.until("completed")
                process.signal(signal.SIGTERM)
                assert process.end() == 0


def rss(pid: int) -> int:
    """Return the peak resident memory of a process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


@pytest.mark.newest
async def test_memory_stays_flat_whatever_the_size(
    database: str, exports_dir: Path, conn: Any
) -> None:
    """Peak of `serve` after a million rows, and after five million more."""
    conn.execute(
        "create table big as select n, 'user' || n || '@example.com' as email, now() as at"
        " from generate_series(1, 1000000) as n"
    )
    conn.execute("grant select on big to csv_reader")
    peaks = []
    with Process(database, exports_dir, "serve") as process:
        process.until("serving")
        for times in (1, 5):
            query = " union all ".join(["select * from big"] * times)
            conn.execute("insert into exports (query) values (%s)", [query])
            process.until("completed")
            peaks.append(rss(process.pid))
    assert conn.execute("select sum(rows) from exports").fetchone() == (6_000_000,)
    assert peaks[0] < 120e6
    assert peaks[1] - peaks[0] < 5e6
