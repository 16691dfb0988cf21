"""Several processes copy one table; the bytes are those of a single COPY."""

import asyncio
import gzip
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import zstandard
from psycopg.conninfo import make_conninfo

from service import attempt
from service.copying import copy, lanes
from service.model import Sliceable
from service.postgres import embedded, schema
from service.postgres.reader import Sessions

from ..conftest import Service, Start, eventually, psql_copy
from ..processes import Process
from ..servers import follow

Conn = psycopg.Connection[Any]

PARTS = """
create table parts (id int, at date, note text) partition by range (at);
create table parts_2 (note text, gone int, at date, id int);
alter table parts_2 drop gone;
alter table parts attach partition parts_2 for values from ('2021-01-01') to ('2022-01-01');
create table parts_1 partition of parts for values from ('2020-01-01') to ('2021-01-01')
    partition by list (id);
create table parts_1_odd partition of parts_1 for values in (1, 3, 5);
create table parts_1_rest partition of parts_1 default;
create table parts_rest partition of parts default;
insert into parts select n % 9, date '2019-06-01' + n % 1500, 'note, "' || n || E'"\\n'
from generate_series(1, 30000) as n;
grant select on parts, parts_2, parts_1, parts_1_odd, parts_1_rest, parts_rest to csv_reader;
"""


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make slices so small that the tables of these tests are large enough."""
    monkeypatch.setattr(lanes, "WORTH_IT", 4)
    monkeypatch.setattr(lanes, "FIRST", 2)
    monkeypatch.setattr(lanes, "TARGET", 60_000)
    monkeypatch.setattr(attempt, "ROWS_FOR_LANES", 100)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The number of slices of each export."""
    counts: list[int] = []
    run = lanes.run

    def counted(*args: Any) -> Iterator[Any]:
        counts.append(0)
        for sliced in run(*args):
            counts[-1] += 1
            yield sliced

    monkeypatch.setattr("service.copying.copy.lanes.run", counted)
    yield counts


async def exported(service: Service, **request: Any) -> tuple[dict[str, Any], bytes]:
    export = await service.ended((await service.export(**request))["jobId"])
    assert export["status"] == "completed", export["error"]
    async with service.http.get(f"/exports/{export['jobId']}/download") as answer:
        return export, await answer.read()


async def test_the_file_is_that_of_one_copy(
    start: Start, conn: Conn, taken: list[int], tmp_path: Path
) -> None:
    conn.execute("delete from users where id % 7 = 0 or id between 200 and 900")
    conn.execute("update users set bio = 'new' where id % 11 = 0")
    conn.execute("create materialized view seen as select * from users order by name")
    conn.execute("grant select on seen to csv_reader; analyze users; analyze seen")
    conn.execute(PARTS.encode())
    conn.execute("analyze parts")
    service = await start(lanes=3)
    wanted: list[tuple[dict[str, Any], str]] = [
        ({"source": "users"}, "select * from users"),
        ({"source": "users", "columns": ["email", "bio"]}, "select email, bio from users"),
        ({"source": "seen"}, "select * from seen"),
        ({"source": "parts"}, "select * from parts"),
        (
            {"source": "parts", "filters": [{"column": "id", "op": "gt", "value": 4}]},
            "select * from parts where id > 4",
        ),
        (
            {"source": "users",
             "filters": [{"column": "country", "op": "ne", "value": "DE"}]},
            "select * from users where country <> 'DE'",
        ),
    ]  # fmt: skip
    for request, select in wanted:
        export, body = await exported(service, **request)
        conn.execute("set max_parallel_workers_per_gather = 0")
        assert body == psql_copy(service.database, select, tmp_path / "psql.csv")
        assert export["rows"] == conn.execute(f"select from ({select}) q").rowcount
    assert len(taken) == 6 and min(taken) >= 5


@pytest.mark.newest
@pytest.mark.parametrize(
    "form",
    [
        {"format": "jsonl"},
        {"format": "tsv", "header": False, "lineEnding": "crlf"},
        {"profile": "excel"},
        {"compression": "gzip"},
        {"compression": "zstd"},
    ],
)
async def test_every_form_is_that_of_one_copy(
    start: Start, taken: list[int], form: dict[str, Any]
) -> None:
    service = await start(lanes=2)
    _, laned = await exported(service, source="users", **form)
    _, whole = await exported(service, query="select * from users", **form)
    assert len(taken) == 1 and taken[0] >= 5
    if form.get("compression") == "gzip":
        laned, whole = gzip.decompress(laned), gzip.decompress(whole)
    elif form.get("compression") == "zstd":
        laned, whole = (
            zstandard.ZstdDecompressor()
            .stream_reader(body, read_across_frames=True)
            .read()
            for body in (laned, whole)
        )
    assert laned == whole


@pytest.mark.newest
async def test_all_lanes_see_one_snapshot(
    start: Start, conn: Conn, taken: list[int]
) -> None:
    """While money moves between accounts, the sum is right in every export."""
    conn.execute(
        "create table accounts as select n as id, 100 as money, repeat('x', 500) as pad"
        " from generate_series(1, 5000) as n; alter table accounts add primary key (id);"
        "grant select on accounts to csv_reader; analyze accounts"
    )
    service = await start(lanes=2)
    done = asyncio.Event()

    async def move() -> None:
        other = await psycopg.AsyncConnection.connect(service.database, autocommit=True)
        async with other:
            while not done.is_set():
                await other.execute(
                    "update accounts set money = money + case when id < 50 then 1 else -1 end"
                    " where id < 50 or id > 4950 and id < 5000"
                )

    moving = asyncio.create_task(move())
    for _ in range(5):
        _, body = await exported(service, source="accounts", columns=["money"])
        lines = body.decode().splitlines()[1:]
        assert len(lines) == 5_000 and sum(map(int, lines)) == 500_000
    done.set()
    await moving
    assert len(taken) == 5


@pytest.mark.newest
async def test_what_cannot_be_cut_takes_one_stream(
    start: Start, conn: Conn, taken: list[int], tmp_path: Path
) -> None:
    conn.execute(PARTS.encode())
    conn.execute(
        "create view shown as select * from users; grant select on shown to csv_reader;"
        "create index on users (email); analyze users;"
        "revoke select on parts_2 from csv_reader; analyze parts;"
        "create table guarded as select n, n % 2 as hidden from generate_series(1, 9000) n;"
        "create table guarded_parent (n int, hidden int);"
        "alter table guarded inherit guarded_parent;"
        "grant select on guarded, guarded_parent to csv_reader;"
        "alter table guarded_parent enable row level security;"
        "create policy half on guarded_parent to csv_reader using (hidden = 0);"
        "analyze guarded; analyze guarded_parent"
    )
    service = await start(lanes=2)
    one = [{"column": "email", "op": "eq", "value": "user77@example.com"}]
    wanted: list[tuple[dict[str, Any], int]] = [
        ({"source": "shown"}, 2_000),
        ({"source": "users", "orderBy": ["id"]}, 2_000),
        ({"source": "users", "limit": 1_000}, 1_000),
        ({"source": "users", "filters": one}, 1),
        ({"query": "select * from users"}, 2_000),
        ({"source": "parts"}, 30_000),
        ({"source": "guarded_parent"}, 4_500),
    ]
    for request, rows in wanted:
        export, _ = await exported(service, **request)
        assert export["rows"] == rows
    assert taken == []


def lane_pids(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for path in listed for child in path.read_text().split()]
    return [
        child
        for child in children
        if b"copying.lane" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def copies(conn: Conn) -> int:
    return conn.execute(
        "select from pg_stat_progress_copy where datname = current_database()"
    ).rowcount


@pytest.fixture
def slow(conn: Conn) -> None:
    """A table whose rows arrive slowly, one by one."""
    conn.execute(
        "create function nap(n int) returns boolean language plpgsql as $$"
        " begin perform pg_sleep(0.002); return true; end $$;"
        "create table slow as select n, repeat('x', 700) as pad"
        " from generate_series(1, 3000) as n; grant select on slow to csv_reader;"
        "alter table slow enable row level security;"
        "create policy nap on slow to csv_reader using (nap(n)); analyze slow"
    )


async def begun(service: Service, conn: Conn) -> str:
    """Submit the slow table, and return when its lanes copy."""
    id = str((await service.export(source="slow"))["jobId"])

    async def copying() -> bool:
        return copies(conn) >= 2

    await eventually(copying)
    return id


@pytest.mark.newest
async def test_a_cancel_stops_all_lanes_at_once(
    start: Start, conn: Conn, slow: None
) -> None:
    service = await start(lanes=2)
    id = await begun(service, conn)
    lent = lane_pids(os.getpid())
    assert len(lent) == 2
    await service.http.post(f"/exports/{id}/cancel")

    async def gone() -> bool:
        return not copies(conn) and not set(lent) & set(lane_pids(os.getpid()))

    await eventually(gone)
    export, _ = await exported(service, source="users")  # by new lanes
    assert export["rows"] == 2_000


@pytest.mark.newest
async def test_a_lane_that_is_killed_costs_no_attempt(
    start: Start, conn: Conn, slow: None
) -> None:
    service = await start(lanes=2)
    id = await begun(service, conn)
    os.kill(lane_pids(os.getpid())[0], signal.SIGKILL)
    export = await service.ended(id)
    assert (export["status"], export["rows"]) == ("completed", 3_000)
    assert [one["outcome"] for one in export["history"]] == ["completed"]


@pytest.mark.newest
async def test_progress_is_live_between_heartbeats(
    start: Start, conn: Conn, slow: None
) -> None:
    service = await start(lanes=2, heartbeat=10)
    id = await begun(service, conn)

    async def moving() -> bool:
        async with service.http.get(f"/exports/{id}") as answer:
            return 100 < int((await answer.json())["rows"]) < 3_000

    await eventually(moving)
    assert conn.execute("select rows from exports").fetchone() == (0,)
    await service.http.post(f"/exports/{id}/cancel")


@pytest.mark.newest
async def test_lanes_die_with_their_worker(
    start: Start, database: str, exports_dir: Path, conn: Conn
) -> None:
    conn.execute(
        "create table big as select n, repeat('x', 1000) as pad"
        " from generate_series(1, 400000) as n; grant select on big to csv_reader;"
        "analyze big; insert into exports (source) values ('big')"
    )
    with Process(
        database, exports_dir, "worker", lanes=2, lease=1, heartbeat=0.2
    ) as it:

        async def copying() -> bool:
            return copies(conn) >= 2

        await eventually(copying)
        lent = lane_pids(it.pid)
        assert len(lent) == 2
        it.kill()

    async def gone() -> bool:
        return not copies(conn) and not any(
            Path(f"/proc/{pid}/cmdline").exists() for pid in lent
        )

    await eventually(gone)
    for partial in exports_dir.glob(".*.partial"):
        partial.unlink()


def test_small_tables_start_no_process(database: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(lanes, "WORTH_IT", 2048)
    pool, sources = lanes.Lanes(2), Sessions(database)
    sliceable = Sliceable("public.users", "select t.id from only ", " as t where ")
    got = bytearray()
    one = copy.Copy(
        sources, "export", "select t.id from public.users as t",
        sliceable=sliceable, pool=pool,
    )  # fmt: skip
    one.run(got.extend)
    assert one.rows == 2_000 and got.count(b"\n") == 2_001
    assert lane_pids(os.getpid()) == []


BESIDE = """
create schema apart;
create table split (id int, note text) partition by range (id);
create table apart.split_1 partition of split for values from (0) to (5000);
create table split_2 partition of split for values from (5000) to (100000);
insert into split select n, repeat('x', 100) from generate_series(0, 9999) n;
grant select on split, apart.split_1, split_2 to csv_reader;
analyze split;
create table narrow (id int, secret text, note text);
insert into narrow select n, 's', repeat('y', 100) from generate_series(1, 9999) n;
grant select (id, note) on narrow to csv_reader;
analyze narrow;
create table limited as select n as id, repeat('z', 100) as note from generate_series(1, 9999) n;
grant select on limited to csv_reader;
analyze limited;
"""


@pytest.mark.newest
@pytest.mark.parametrize(
    "request_, prepare, said",
    [
        ({"source": "split"}, "", "permission denied for schema apart"),
        ({"source": "narrow", "columns": ["id", "note"]}, "", ""),
        # csv_reader may have one session only, so no lane can log in.
        ({"source": "limited"}, "alter role csv_reader connection limit 1", "too many"),
    ],
)
async def test_what_lanes_cannot_copy_one_stream_does(
    start: Start, conn: Conn, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    request_: dict[str, Any], prepare: str, said: str,
) -> None:  # fmt: skip
    conn.execute(BESIDE.encode())
    service = await start(lanes=2)
    try:
        if prepare:
            conn.execute(prepare.encode())
        with caplog.at_level("WARNING"):
            _, body = await exported(service, **request_)
    finally:
        conn.execute("alter role csv_reader connection limit -1")
    columns = ", ".join(request_.get("columns", ["*"]))
    select = f"select {columns} from {request_['source']}"
    assert body == psql_copy(service.database, select, tmp_path / "psql.csv")
    if said:
        assert "copying in one stream" in caplog.text and said in caplog.text


@pytest.mark.newest
async def test_an_error_of_the_data_is_told_once(start: Start, conn: Conn) -> None:
    conn.execute(
        "create table bad as select n, repeat('x', 200) as pad"
        " from generate_series(1, 9000) n; analyze bad;"
        "create view worse as select 1 / (n - 8000) as q, pad from bad;"
        "grant select on bad, worse to csv_reader"
    )
    service = await start(lanes=2)
    ended = await service.ended((await service.export(source="worse"))["jobId"])
    assert ended["status"] == "failed"
    assert (ended["error"]["message"], ended["attempt"]) == ("division by zero", 1)


@pytest.mark.newest
async def test_a_standby_is_copied_by_one_stream(
    scratch: Path, start: Start, tmp_path: Path, taken: list[int]
) -> None:
    """A standby cannot export a snapshot to other sessions."""
    primary = embedded.Postgres(scratch / "primary", settings={"fsync": "off"})
    with primary as conninfo:
        schema.migrate(conninfo)
        schema.seed(conninfo, 2_000)
        with psycopg.connect(conninfo, autocommit=True) as conn:
            conn.execute("analyze users")
        with follow(primary, scratch / "standby") as source:
            with psycopg.connect(source) as conn:
                assert conn.execute("select pg_is_in_recovery()").fetchone() == (True,)
            service = await start(
                database_url=conninfo,
                source_database_url=make_conninfo(source, user="csv_reader"),
                lanes=2,
            )
            _, body = await exported(service, source="users")
            copied = psql_copy(source, "select * from users", tmp_path / "psql.csv")
    assert body == copied
    assert not taken
