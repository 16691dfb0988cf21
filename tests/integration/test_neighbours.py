"""Hostile exports, rows, sessions and notifications beside honest exports."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from service import app
from service.config import Settings

from ..conftest import Start, eventually, psql_copy

Conn = psycopg.Connection[Any]

HOSTILE = {
    "a name like ours": "select set_config('application_name', 'export ' || id || ' zz ff', false)"
    " from public_ids",
    "a name with huge figures": "select set_config('application_name', 'export ' || id"
    " || ' ffffffffffff ffffffffffff', false) from public_ids",
    "ends the others": "select pg_terminate_backend(pid) from pg_stat_activity"
    " where usename = current_user and pid <> pg_backend_pid()",
    "cancels the others": "select pg_cancel_backend(pid) from pg_stat_activity"
    " where usename = current_user and pid <> pg_backend_pid()",
    "locks what migrate locked": "select pg_advisory_lock(6517622)",
    "locks what the sweep locked": "select pg_advisory_lock(6517622, 1)",
    "long rows": "select repeat('x', 50000000) from generate_series(1, 2)",
    "a late error": "select 1 / (5000 - n) from generate_series(1, 10000) as n",
    "odd settings": "select set_config('client_encoding', 'LATIN1', false),"
    " set_config('statement_timeout', '1', false)",
    "deep": "select " + "-" .join(["1"] * 3000),
}  # fmt: skip
ROWS = [
    # PostgreSQL accepts this time zone; no library does.
    "insert into exports (source, time_zone)"
    " values ('users', '<' || repeat('A', 70) || '>-3')",
    "insert into exports (query) values ('select ''%s %% \\x {}''')",
    "insert into exports (query, priority) values ('select 1', 3)",
]
HONEST = "select id, name, email from users where id <= 1000 order by id"


async def test_honest_exports_complete_beside_hostile_ones(
    start: Start, conn: Conn, tmp_path: Path
) -> None:
    conn.execute(
        "create function ids() returns setof uuid language sql security definer"
        " as 'select id from exports'"
    )
    conn.execute(
        "create view public_ids as select id from ids() as id;"
        "grant select on public_ids to csv_reader"
    )
    service = await start(worker_slots=4, poll_interval=0.5)
    honest, hostile, broken = [], [], []

    async def watch() -> None:
        """Read lists and streams as fast as possible; no request may fail."""
        async with service.http.get("/events") as stream:
            assert stream.status == 200
            async for _ in stream.content:
                for path in ("/exports", "/exports?status=processing", "/health"):
                    async with service.http.get(path) as answer:
                        if answer.status != 200:
                            broken.append(await answer.text())

    watching = asyncio.create_task(watch())
    for number, query in enumerate(HOSTILE.values()):
        for _ in range(2):
            honest.append((await service.export(query=HONEST))["jobId"])
        hostile.append((await service.export(query=query))["jobId"])
        if number < len(ROWS):
            conn.execute(ROWS[number])
        bother(conn.info.dsn, honest[-1])
    wanted = psql_copy(service.database, HONEST, tmp_path / "wanted.csv")
    for id in honest:
        export = await service.ended(id, patience=120)
        assert export["status"] == "completed", export
        assert export["rows"] == 1000
        file = service.settings.exports_dir / f"{id}-{export['attempt']}.csv"
        assert file.read_bytes() == wanted
    for id in hostile:
        await service.ended(id, patience=120)
    assert not watching.done() or watching.exception() is None, watching
    watching.cancel()
    assert not broken, broken[0]


def bother(dsn: str, id: str) -> None:
    """Do harm that needs no more than a login; a hostile export may end it."""
    with (
        suppress(psycopg.errors.AdminShutdown),
        psycopg.connect(dsn, user="csv_reader", autocommit=True) as stranger,
    ):
        stranger.execute("notify exports; notify exports, 'export %s %'")
        stranger.execute("notify exports_pending, 'x'; notify exports_echo, 'x'")
        stranger.execute(
            "select set_config('application_name', %s, false)",
            [f"export {id} {'f' * 12} {'f' * 12}"],
        )


@pytest.mark.parametrize(
    "figures",
    ["zz ff", "%s", f"{'f' * 12} {'f' * 12}", f"{'f' * 40} 1", "\\x00", "1 1 1", ""],
)
def test_whatever_a_session_calls_itself_lists_are_read(
    conn: Conn, figures: str
) -> None:
    """Any role that may log in chooses its application_name, even without rights."""
    row = conn.execute("insert into exports default values returning id").fetchone()
    assert row
    conn.execute("select from claim_exports('w', '1 hour')")
    with psycopg.connect(conn.info.dsn, user="csv_reader", autocommit=True) as stranger:
        stranger.execute(
            "select set_config('application_name', %s, false)",
            [f"export {row[0]} {figures}"],
        )
        found = conn.execute(
            "select id, rows, bytes, eta_seconds from list_exports(10)"
        ).fetchall()
    assert [one[0] for one in found] == [row[0]]
    assert found[0][1] >= 0 and found[0][2] >= 0


def test_nobody_signs_for_another(conn: Conn) -> None:
    row = conn.execute(
        "insert into exports (query, requested_by) values ('select 1', 'somebody else')"
        " returning requested_by"
    ).fetchone()
    assert row == (conn.info.user,)


@pytest.mark.newest
async def test_who_locks_one_export_holds_up_no_other(start: Start, conn: Conn) -> None:
    service = await start(worker_slots=4)
    slow = {"query": "select pg_sleep(0.5)::text as x"}
    locked = (await service.export(**slow))["jobId"]
    others = [(await service.export(**slow))["jobId"] for _ in range(3)]

    async def all_run() -> bool:
        row = conn.execute(
            "select count(*) from exports where status = 'processing'"
        ).fetchone()
        return row == (4,)

    await eventually(all_run)
    with conn.transaction():
        conn.execute("select from exports where id = %s for update", [locked])
        for id in others:
            assert (await service.ended(id))["status"] == "completed"
    assert (await service.ended(locked))["status"] == "completed"


@pytest.mark.newest
@pytest.mark.parametrize("who_limits", ["setting", "database"])
async def test_a_repeated_key_is_answered_when_the_queue_is_full(
    start: Start, conn: Conn, who_limits: str
) -> None:
    if who_limits == "database":
        conn.execute(
            "do $$ begin execute format('alter database %I set exports.max_pending = 1',"
            " current_database()); end $$"
        )
    chosen = {"max_pending": 1} if who_limits == "setting" else {}
    service = await start(work=False, **chosen)
    first = {"Idempotency-Key": "first"}
    async with service.http.post("/exports", headers=first) as answer:
        assert answer.status == 202
        id = (await answer.json())["jobId"]
    for headers in ({}, {"Idempotency-Key": "second"}):
        async with service.http.post("/exports", headers=headers) as answer:
            assert answer.status == 429, await answer.text()
    async with service.http.post("/exports", headers=first) as answer:
        assert (answer.status, (await answer.json())["jobId"]) == (202, id)


@pytest.mark.newest
async def test_the_database_says_what_has_expired(start: Start, conn: Conn) -> None:
    service = await start()
    id = (await service.ended((await service.export(query="select 1"))["jobId"]))[
        "jobId"
    ]
    for moved, status in (("+ interval '1 s'", 200), ("- interval '1 s'", 410)):
        # The clocks of two hosts may differ by more than a second.
        conn.execute(f"update exports set expires_at = now() {moved}")
        async with service.http.get(f"/exports/{id}/download") as answer:
            assert answer.status == status


@pytest.mark.newest
async def test_a_folder_that_cannot_be_made_is_one_sentence(
    database: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    settings = Settings(
        database_url=database, exports_dir=tmp_path / "file" / "exports"
    )
    with pytest.raises(app.StartError, match="cannot create EXPORTS_DIR "):
        async with app.running(settings, database, serve=False, work=False):
            pass
