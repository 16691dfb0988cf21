"""Background tasks go on after unexpected errors and odd rows."""

import asyncio
from typing import Any

import psycopg
import pytest

from service import supervision
from service.janitor import Janitor
from service.queue.listener import Listener

from ..conftest import Service, Start, eventually

pytestmark = pytest.mark.newest
Conn = psycopg.Connection[Any]


@pytest.fixture(autouse=True)
def no_errors_logged(caplog: pytest.LogCaptureFixture) -> None:
    """In these tests, errors in the log are expected."""


async def metric(service: Service, name: str) -> float:
    async with service.http.get("/metrics") as answer:
        for line in (await answer.text()).splitlines():
            if line.startswith(name):
                return float(line.split()[-1])
    return 0.0


@pytest.mark.parametrize(
    "kind, method, name",
    [(Janitor, "_rescue", "janitor"), (Listener, "_listen", "listener")],
)
async def test_a_task_that_fails_starts_again(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    kind: type, method: str, name: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(supervision, "FIRST_PAUSE", 0.01)
    real = getattr(kind, method)
    failed = asyncio.Event()

    async def fail_once(self: Any, *args: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("nobody thought of this")
        return await real(self, *args)

    monkeypatch.setattr(kind, method, fail_once)
    service = await start()
    series = f'export_task_failures_total{{task="{name}"}}'

    async def counted() -> bool:
        return await metric(service, series) == 1

    await eventually(counted)
    assert "nobody thought of this" in caplog.text
    export = await service.export(query="select 1")
    assert (await service.ended(export["jobId"]))["status"] == "completed"


async def test_a_phase_in_which_the_database_only_reads(
    start: Start, conn: Conn, caplog: pytest.LogCaptureFixture
) -> None:
    """This happens in a failover: running exports go on, new ones are refused."""
    service = await start(lease=5, heartbeat=0.5)
    running = await service.export(
        query="select n, pg_sleep(0.01)::text from generate_series(1, 200) n"
    )

    async def begun() -> bool:
        row = conn.execute("select status from exports").fetchone()
        return bool(row and row[0] == "processing")

    await eventually(begun)
    name = conn.info.dbname
    with psycopg.connect(conn.info.dsn, dbname="postgres", autocommit=True) as admin:
        admin.execute(f"alter database {name} set default_transaction_read_only = on")
        others = (
            "select pg_terminate_backend(pid) from pg_stat_activity"
            f" where datname = '{name}' and usename <> 'csv_reader'"
        )
        admin.execute(others)

        async def refused() -> bool:
            async with service.http.post("/exports", json={"query": "select 1"}) as one:
                assert one.status == 503, await one.text()
                assert int(one.headers["Retry-After"]) > 0
                return "read-only" in caplog.text

        await eventually(refused)
        async with service.http.get("/health") as answer:
            assert answer.status == 503
            assert "read-only" in (await answer.json())["detail"]
        admin.execute(f"alter database {name} reset default_transaction_read_only")
        admin.execute(others)

    async def accepted() -> str | None:
        async with service.http.post("/exports", json={"query": "select 1"}) as one:
            return (await one.json())["jobId"] if one.status == 202 else None

    other = await eventually(accepted)
    assert (await service.ended(other))["status"] == "completed"
    assert (await service.ended(running["jobId"]))["status"] == "completed"


@pytest.mark.parametrize(
    "function, query",
    [
        ("complete_exports(jsonb, interval)", "select 1"),
        ("fail_export", "select 1 / (n - 1) from generate_series(1, 2) as n"),
        ("claim_exports", "select 1"),
        ("heartbeat_export", "select pg_sleep(0.3)::text"),
    ],
)
async def test_a_function_that_is_gone_for_a_while_ends_nothing(
    start: Start,
    conn: Conn,
    caplog: pytest.LogCaptureFixture,
    function: str,
    query: str,
) -> None:
    """This happens in a wrong upgrade: the worker waits for it, and loses no attempt."""
    name = function.partition("(")[0]
    conn.execute(f"alter function {function} rename to away".encode())
    service = await start()
    id = (await service.export(query=query))["jobId"]

    async def missed() -> bool:
        return f"function {name}" in caplog.text

    await eventually(missed)
    conn.execute(f"alter function away rename to {name}".encode())
    export = await service.ended(id)
    assert export["attempt"] == 1
    assert export["status"] == ("failed" if name == "fail_export" else "completed")


async def test_rows_that_somebody_wrote_by_hand_are_read(
    service: Service, conn: Conn
) -> None:
    zone = "<" + "A" * 70 + ">-3"
    row = conn.execute(
        "insert into exports (source, time_zone) values ('users', %s) returning id",
        [zone],
    ).fetchone()
    assert row
    assert (await service.ended(str(row[0])))["timeZone"] == zone
    await service.ended((await service.export(query="select 1"))["jobId"])
    conn.execute("alter table exports disable trigger user")
    conn.execute(
        """update exports set error = '{"message": "x", "sqlstate": 5, "hint": [1]}',"""
        """ history = '[{"odd": 1}]', result_columns = '"none"', filters = null"""
    )
    conn.execute("alter table exports enable trigger user")
    async with service.http.get("/exports") as answer:
        assert answer.status == 200
        assert len((await answer.json())["exports"]) == 2
    export = await service.export(query="select 2")
    assert (await service.ended(export["jobId"]))["status"] == "completed"
