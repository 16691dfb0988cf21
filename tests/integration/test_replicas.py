"""A replica as source: it may lag behind, and its recovery may end queries."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

from service.postgres import schema
from service.postgres.embedded import Postgres

from ..conftest import Start, eventually
from ..servers import follow

pytestmark = pytest.mark.newest

Conn = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def pair(scratch: Path) -> Iterator[tuple[str, str]]:
    """The conninfo of a primary, and of a replica whose replay never waits for queries."""
    primary = Postgres(scratch / "leads", settings={"fsync": "off"})
    with primary as leads:
        schema.migrate(leads)
        impatient = {"max_standby_streaming_delay": "0"}
        with follow(primary, scratch / "follows", **impatient) as follows:
            yield leads, make_conninfo(follows, user="csv_reader")


@pytest.fixture
def leads(pair: tuple[str, str]) -> Iterator[Conn]:
    with psycopg.connect(pair[0], autocommit=True) as conn:
        yield conn


class Replica:
    """Ask the replica as an administrator; repeat queries that its recovery ends."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo

    def ask(self, question: str, *values: object) -> Any:
        for _ in range(100):
            try:
                with psycopg.connect(self._conninfo, user="postgres") as conn:
                    row = conn.execute(question, values or None).fetchone()
                    return row and row[0]
            except (errors.SerializationFailure, errors.AdminShutdown):
                pass
        raise AssertionError("recovery ends all of them")


@pytest.fixture
def follows(pair: tuple[str, str]) -> Iterator[Replica]:
    replica = Replica(pair[1])
    yield replica
    replica.ask("select pg_wal_replay_resume()")


async def caught_up(leads: Conn, follows: Replica) -> None:
    row = leads.execute("select pg_current_wal_insert_lsn()").fetchone()
    assert row

    async def replayed() -> Any:
        return follows.ask("select pg_last_wal_replay_lsn() >= %s::pg_lsn", row[0])

    await eventually(replayed)


async def test_what_is_not_there_yet_is_tried_again(
    start: Start, pair: tuple[str, str], leads: Conn, follows: Replica
) -> None:
    await caught_up(leads, follows)
    follows.ask("select pg_wal_replay_pause()")
    leads.execute("create table late as select 1 as n")
    leads.execute("grant select on late to csv_reader")
    service = await start(
        database_url=pair[0], source_database_url=pair[1], poll_interval=0.2
    )
    id = (await service.export(source="late"))["jobId"]

    async def waits() -> Any:
        async with service.http.get(f"/exports/{id}") as answer:
            export = await answer.json()
        return export["history"] and export

    export = await eventually(waits)
    assert export["status"] == "pending"
    assert export["history"][0]["error"]["message"] == (
        'relation "public.late" does not exist (on a replica, which may lag behind)'
    )
    follows.ask("select pg_wal_replay_resume()")
    export = await service.ended(id)
    assert (export["status"], export["rows"]) == ("completed", 1)


async def test_what_recovery_ended_is_tried_again(
    start: Start, pair: tuple[str, str], leads: Conn, follows: Replica
) -> None:
    leads.execute(
        "create table changing as select n from generate_series(1, 1000) as n"
    )
    leads.execute("grant select on changing to csv_reader")
    await caught_up(leads, follows)
    service = await start(
        database_url=pair[0], source_database_url=pair[1], poll_interval=0.2
    )
    slow = "select n, pg_sleep(0.005)::text as nap from changing"
    id = (await service.export(query=slow))["jobId"]

    async def copying() -> bool:
        async with service.http.get(f"/exports/{id}") as answer:
            return bool((await answer.json())["rows"])

    await eventually(copying)
    leads.execute("delete from changing where n > 10")
    leads.execute("vacuum changing")  # replaying it conflicts with the snapshot
    export = await service.ended(id)
    assert (export["status"], export["attempt"], export["rows"]) == ("completed", 2, 10)
    assert "recovery" in export["history"][0]["error"]["message"]


async def test_the_instant_of_a_snapshot_is_that_of_the_replica(
    start: Start, pair: tuple[str, str], leads: Conn, follows: Replica
) -> None:
    leads.execute("create table told (at timestamptz)")
    leads.execute("grant select on told to csv_reader")
    leads.execute("insert into told values (clock_timestamp())")
    await caught_up(leads, follows)
    follows.ask("select pg_wal_replay_pause()")
    row = leads.execute("insert into told values (now()) returning at").fetchone()
    assert row
    service = await start(database_url=pair[0], source_database_url=pair[1])
    export = await service.ended((await service.export(source="told"))["jobId"])
    assert (export["status"], export["rows"]) == ("completed", 1)
    snapshot_at = datetime.fromisoformat(export["snapshotAt"])
    assert row[0] - timedelta(minutes=5) < snapshot_at < row[0]
