"""From a request to the right bytes, through real HTTP, NOTIFY, COPY and files."""

import asyncio
import csv
import hashlib
import io
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ..conftest import Service, Start, eventually, psql_copy

AWKWARD = Path(__file__).parents[2] / "seeds" / "02-seed.sql"


async def test_the_file_is_what_psql_copies(service: Service, tmp_path: Path) -> None:
    export = await service.export()
    assert export["status"] == "pending"
    export = await service.ended(export["jobId"])
    expected = psql_copy(service.database, "select * from users", tmp_path / "psql.csv")
    async with service.http.get(f"/exports/{export['jobId']}/download") as answer:
        body = await answer.read()
    assert body == expected
    assert (
        export["rows"] == 2_000 == len(list(csv.reader(io.StringIO(body.decode())))) - 1
    )
    assert export["bytes"] == len(expected)
    assert export["sha256"] == hashlib.sha256(expected).hexdigest()
    assert export["progress"] == 100
    path = service.settings.exports_dir / f"{export['jobId']}-1.csv"
    assert path.read_bytes() == expected


@pytest.mark.parametrize(
    "query",
    [
        "select * from users where id < 9",
        "select * from users where false",
        'select 1 as "a,b", 2 as "quote""d", null as nothing, \'\' as empty',
        "select array[1, 2] as list, '{\"a\": \"b,c\"}'::jsonb as j, '\\xdead'::bytea as b,"
        " 'infinity'::date as d, 'nan'::float8 as f, interval '1 day 2 h' as i",
        "select repeat('x', 3000000) as wide, n from generate_series(1, 3) n",
        "select n from generate_series(1, 100000) n -- comment",
    ],
)
async def test_queries_are_what_psql_copies(
    service: Service, tmp_path: Path, query: str
) -> None:
    export = await service.ended((await service.export(query=query))["jobId"])
    assert export["status"] == "completed", export["error"]
    expected = psql_copy(service.database, query.split(" --")[0], tmp_path / "psql.csv")
    path = service.settings.exports_dir / f"{export['jobId']}-1.csv"
    assert path.read_bytes() == expected


async def test_columns_come_in_the_order_asked_for(service: Service) -> None:
    export = await service.export(source="users", columns=["email", "id"])
    export = await service.ended(export["jobId"])
    path = service.settings.exports_dir / f"{export['jobId']}-1.csv"
    assert path.read_text().splitlines()[:2] == ["email,id", "bob@example.com,1"]


async def test_a_psql_user_needs_no_more_than_an_insert(
    service: Service, conn: Any
) -> None:
    row = conn.execute("insert into exports default values returning id").fetchone()
    export = await service.ended(str(row[0]))
    assert (export["status"], export["rows"]) == ("completed", 2_000)
    assert conn.execute("select progress, rows from exports").fetchone() == (100, 2_000)


async def test_what_fails_while_it_runs_says_why(service: Service) -> None:
    query = "select 1 / (n - 50000) from generate_series(1, 60000) n"
    export = await service.ended((await service.export(query=query))["jobId"])
    assert export["status"] == "failed"
    assert export["error"]["message"] == "division by zero"
    assert export["error"]["sqlstate"] == "22012"
    assert list(service.settings.exports_dir.iterdir()) == []
    async with service.http.get(f"/exports/{export['jobId']}/download") as answer:
        assert answer.status == 409
        assert "division by zero" in (await answer.json())["detail"]


@pytest.mark.parametrize(
    "query, words",
    [
        ("select nextval('users_id_seq')", "permission denied"),
        ("select set_config('transaction_read_only', 'off', false)", "read-write mode"),
        ("select * from users for update", "permission denied"),
        ("select lo_import('/etc/passwd')", "permission denied"),
        ("select pg_read_file('/etc/passwd')", "permission denied"),
        ("select from users", "at least one column"),
        ("select query_to_xml('delete from users', true, true, '')", ""),
    ],
)
async def test_what_only_running_shows_writes_nothing_either(
    service: Service, conn: Any, query: str, words: str
) -> None:
    async with service.http.post("/exports", json={"query": query}) as answer:
        told = await answer.json()
    if answer.status == 202:
        export = await service.ended(told["jobId"])
        assert export["status"] == "failed"
        told = {"detail": export["error"]["message"]}
    assert words in told["detail"]
    assert conn.execute("select count(*) from users").fetchone() == (2_000,)
    assert list(service.settings.exports_dir.iterdir()) == []


async def test_the_worker_trusts_no_row_either(start: Start, conn: Any) -> None:
    """A row that was not checked at submit is still checked when it runs."""
    conn.execute("alter table exports disable trigger submit")
    for text in (
        "select 1) TO STDOUT; COMMIT; DELETE FROM users; COPY (select 2",
        "select 1) TO PROGRAM 'id' --",
        "select 1; delete from users",
        "delete from users returning *",
        "insert into users default values returning *",
        "show all",
        "explain select 1",
        "select $1::text",
        "select from users",
        "",
        "select * from exports",
        "copy users to stdout",
        "begin",
    ):
        conn.execute(
            "insert into exports (query, sql_text, delimiter, header, null_text,"
            " quote_all, line_ending, bom, formula_guard, decimal_comma, digits_as_text,"
            " priority, waits_for, turn)"
            " values ('x', %s, ',', true, '', false, 'lf', false, false, false, false,"
            " 5, 'worker', 1)",
            [text],
        )
    service = await start()

    async def all_ended() -> bool:
        row = conn.execute("select bool_and(status = 'failed') from exports").fetchone()
        return bool(row[0])

    await eventually(all_ended)
    assert conn.execute("select count(*) from users").fetchone() == (2_000,)
    assert list(service.settings.exports_dir.iterdir()) == []


async def running_copy(conn: Any, id: str) -> Any:
    return conn.execute(
        "select pid from pg_stat_activity join pg_stat_progress_copy using (pid)"
        " where application_name = 'export ' || %s and tuples_processed > 0",
        [id],
    ).fetchone()


ENDLESS = "select generate_series(1, 1000000000) as n, repeat('x', 20) as pad"


@pytest.mark.parametrize("way", ["http", "function", "update", "delete"])
async def test_cancelling_stops_the_server_and_leaves_nothing(
    service: Service, conn: Any, way: str
) -> None:
    id = (await service.export(query=ENDLESS))["jobId"]

    async def runs() -> Any:
        return await running_copy(conn, id)

    await eventually(runs)
    match way:
        case "http":
            async with service.http.post(f"/exports/{id}/cancel") as answer:
                assert answer.status == 200
                assert (await answer.json())["status"] == "cancelled"
        case "function":
            assert conn.execute("select cancel_export(%s)", [id]).fetchone() == (
                "cancelled",
            )
        case "update":
            conn.execute("update exports set status = 'cancelled' where id = %s", [id])
        case "delete":
            conn.execute("delete from exports where id = %s", [id])

    async def gone() -> bool:
        backend = conn.execute(
            "select from pg_stat_activity where application_name = 'export ' || %s",
            [id],
        ).rowcount
        return not backend and not list(service.settings.exports_dir.iterdir())

    await eventually(gone, patience=1.0)
    if way != "delete":
        assert (await service.ended(id))["status"] == "cancelled"


async def test_a_query_that_sends_nothing_is_cancelled_too(
    service: Service, conn: Any
) -> None:
    id = (await service.export(query="select pg_sleep(600)"))["jobId"]

    async def sleeps() -> Any:
        return conn.execute(
            "select from pg_stat_activity where application_name = 'export ' || %s"
            " and wait_event = 'PgSleep'",
            [id],
        ).rowcount

    await eventually(sleeps)
    conn.execute("select cancel_export(%s)", [id])

    async def gone() -> bool:
        return not await sleeps() and not list(service.settings.exports_dir.iterdir())

    await eventually(gone, patience=1.0)


async def test_progress_is_live_without_a_write(start: Start, conn: Any) -> None:
    service = await start(heartbeat=3600, lease=7200)
    id = (await service.export(query=ENDLESS))["jobId"]

    async def moving() -> bool:
        async with service.http.get(f"/exports/{id}") as answer:
            export = await answer.json()
        # The row has the figures of the last heartbeat, which may be recent.
        stored = conn.execute("select rows from exports").fetchone()[0]
        return (
            export["rows"] > 10_000 + stored
            and export["bytes"] > 0
            and export["rowsPerSecond"] > 0
        )

    await eventually(moving)
    conn.execute("select cancel_export(%s)", [id])


async def test_progress_is_in_the_row_with_the_heartbeat(
    start: Start, conn: Any
) -> None:
    await start(heartbeat=0.05)
    conn.execute("insert into exports (query) values (%s)", [ENDLESS])

    async def reported() -> bool:
        row = conn.execute("select rows > 0 and bytes > 0 from exports").fetchone()
        return bool(row[0])

    await eventually(reported)
    conn.execute("select cancel_export(id) from exports")


async def test_a_late_cancel_never_overwrites(service: Service, conn: Any) -> None:
    id = (await service.export())["jobId"]
    assert (await service.ended(id))["status"] == "completed"
    async with service.http.post(f"/exports/{id}/cancel") as answer:
        assert answer.status == 409
    assert conn.execute("select cancel_export(%s)", [id]).fetchone() == ("completed",)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        conn.execute("update exports set status = 'cancelled'")
    assert (await service.ended(id))["status"] == "completed"


async def test_cancels_and_completions_race_to_one_truth(
    service: Service, conn: Any
) -> None:
    """The first one wins, and the file and the row agree."""

    async def race(n: int) -> tuple[str, str]:
        id = (await service.export(query=f"select * from users limit {n}"))["jobId"]
        await asyncio.sleep(n % 10 / 500)  # at all stages of the export
        await service.http.post(f"/exports/{id}/cancel")
        return id, (await service.ended(id))["status"]

    ended = await asyncio.gather(*(race(n) for n in range(60)))
    assert {status for _, status in ended} <= {"completed", "cancelled"}
    completed = {f"{id}-1.csv" for id, status in ended if status == "completed"}

    async def settled() -> bool:
        return {
            path.name for path in service.settings.exports_dir.iterdir()
        } == completed

    await eventually(settled)


async def test_retry_runs_it_again(service: Service) -> None:
    export = await service.export(
        query="select 1 / (n - 1) from generate_series(1, 2) n"
    )
    export = await service.ended(export["jobId"])
    assert export["status"] == "failed"
    async with service.http.post(f"/exports/{export['jobId']}/retry") as answer:
        assert answer.status == 202
    export = await service.ended(export["jobId"])
    assert (export["status"], export["attempt"]) == ("failed", 2)


async def test_an_export_leaves_nothing_to_the_next_on_its_connection(
    start: Start,
) -> None:
    service = await start(worker_slots=1)

    async def row(query: str) -> dict[str, str]:
        export = await service.ended((await service.export(query=query))["jobId"])
        assert export["status"] == "completed", export["error"]
        async with service.http.get(f"/exports/{export['jobId']}/download") as answer:
            (found,) = csv.DictReader(io.StringIO(await answer.text()))
        return found

    looks = (
        "select pg_backend_pid() as pid, current_setting('statement_timeout') as timeout,"
        " current_setting('search_path') as path, current_setting('timezone') as zone,"
        " current_setting('my.secret', true) as secret, current_user as me,"
        " (select count(*) from pg_locks where locktype = 'advisory'"
        " and pid = pg_backend_pid()) as locks, pg_sleep(0.02)::text as nap"
    )
    clean = await row(looks)
    await row(
        "select set_config('statement_timeout', '1ms', false),"
        " set_config('search_path', 'pg_catalog', false),"
        " set_config('timezone', 'Asia/Tokyo', false),"
        " set_config('my.secret', 'hello', false), pg_advisory_lock(42)::text"
    )
    assert await row(looks) == clean, "the same connection, as if it were new"
    assert clean["locks"] == "0" and clean["secret"] == ""
