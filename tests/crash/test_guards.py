"""Each guarantee with a counter-test: without the guard, the scenario fails."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from service.copying import pump
from service.storage import Directory, Partial

Conn = psycopg.Connection[Any]

pytestmark = pytest.mark.newest

DIGEST = "a" * 64


def claim(conn: Conn, lease: str = "1 min") -> tuple[Any, int]:
    row = conn.execute("select id, attempt from claim_exports('w', %s)", [lease])
    return row.fetchone() or (None, 0)


def one(conn: Conn, statement: str, *params: Any) -> Any:
    row = conn.execute(statement, params).fetchone()
    return row and row[0]


def without(conn: Conn, function: str, guard: str, instead: str = "") -> None:
    """Replace *guard* in the SQL function by *instead*."""
    definition = one(conn, "select pg_get_functiondef(%s::regproc)", function)
    assert definition.count(guard) >= 1, f"{function} has no {guard!r}"
    conn.execute(definition.replace(guard, instead))


def zombie(call: str) -> Callable[[Conn], None]:
    """Attempt 1 comes back after attempt 2 has begun, and makes the *call*."""

    def scenario(conn: Conn) -> None:
        conn.execute("insert into exports (query) values ('select 1')")
        id, _ = claim(conn, "0 s")
        conn.execute("select rescue_exports()")
        conn.execute("update exports set run_at = now()")
        assert claim(conn) == (id, 2)
        before = one(conn, "select to_jsonb(e) from exports as e")
        conn.execute(f"select {call}", {"id": id})
        assert one(conn, "select to_jsonb(e) from exports as e") == before

    return scenario


def two_claims(conn: Conn) -> None:
    """A second claim begins before the first has committed."""
    conn.execute("insert into exports (query) values ('select 1'), ('select 2')")
    with psycopg.connect(conn.info.dsn) as first, ThreadPoolExecutor(1) as thread:
        mine = claim(first)
        theirs = thread.submit(claim, conn)
        blocked = (
            "select from pg_stat_activity where wait_event_type = 'Lock'"
            " and datname = current_database()"
        )
        with psycopg.connect(conn.info.dsn, autocommit=True) as third:
            while not theirs.done() and not third.execute(blocked).rowcount:
                pass
        first.commit()
        assert theirs.result()[0] != mine[0]


def a_live_lease(conn: Conn) -> None:
    conn.execute("insert into exports (query) values ('select 1')")
    claim(conn)
    assert conn.execute("select from rescue_exports()").rowcount == 0


def a_file_in_use(conn: Conn) -> None:
    conn.execute("insert into exports (query) values ('select 1')")
    id, attempt = claim(conn)
    debris = conn.execute("select name from find_debris(%s)", [[f"{id}-{attempt}.csv"]])
    assert debris.fetchall() == []


def a_late_cancel(conn: Conn) -> None:
    conn.execute("insert into exports (query) values ('select 1')")
    id, _ = claim(conn)
    conn.execute("select complete_export(%s, 1, 1, 1, %s)", [id, DIGEST])
    assert one(conn, "select cancel_export(%s)", id) == "completed"


def a_change_by_hand(conn: Conn) -> None:
    conn.execute("insert into exports (query) values ('select 1')")
    try:
        conn.execute("update exports set sql_text = 'select 2'")
    except psycopg.errors.ObjectNotInPrerequisiteState:
        pass
    assert one(conn, "select sql_text from exports") == "select 1"


def unlock(conn: Conn) -> None:
    without(conn, "claim_exports", "for update skip locked")
    conn.execute("alter table exports disable trigger guard")


def forget_status(conn: Conn) -> None:
    without(
        conn, "cancel_export", "and status in ('pending', 'processing')", "and true"
    )
    conn.execute("alter table exports disable trigger guard")
    conn.execute(
        "alter table exports drop constraint only_a_completed_export_has_a_digest,"
        " drop constraint only_a_pending_export_waits"
    )


FENCE = "and attempt = p_attempt"
GUARDS: dict[str, tuple[Callable[[Conn], None], Callable[[Conn], Any]]] = {
    "heartbeat": (
        zombie("heartbeat_export(%(id)s, 1, '1 min', 5, 50)"),
        lambda conn: without(conn, "heartbeat_export", FENCE),
    ),
    "complete": (
        zombie(f"complete_export(%(id)s, 1, 1, 1, '{DIGEST}')"),
        lambda conn: without(conn, "complete_exports", "and e.attempt = told.attempt"),
    ),
    "fail": (
        zombie("""fail_export(%(id)s, 1, '{"message": "no"}')"""),
        lambda conn: without(conn, "fail_export", FENCE),
    ),
    "release": (
        zombie("release_export(%(id)s, 1)"),
        lambda conn: without(conn, "release_export", FENCE),
    ),
    "claim": (two_claims, unlock),
    "lease": (
        a_live_lease,
        lambda conn: without(
            conn, "rescue_exports", "and lease_expires_at < now()", ""
        ),
    ),
    "debris": (
        a_file_in_use,
        lambda conn: without(
            conn,
            "find_debris",
            "e.file_path is distinct from found.name",
            "e.status <> 'completed'",
        ),
    ),
    "cancel": (a_late_cancel, forget_status),
    "guard": (
        a_change_by_hand,
        lambda conn: conn.execute("alter table exports disable trigger guard"),
    ),
}


@pytest.mark.parametrize("name", GUARDS)
def test_the_guard_holds(conn: Conn, name: str) -> None:
    scenario, _ = GUARDS[name]
    scenario(conn)


@pytest.mark.parametrize("name", GUARDS)
def test_without_the_guard_the_scenario_fails(conn: Conn, name: str) -> None:
    scenario, take_away = GUARDS[name]
    take_away(conn)
    with pytest.raises(AssertionError):
        scenario(conn)


def test_claiming_twice_meets_a_second_guard(conn: Conn) -> None:
    """Without the lock, the state machine itself refuses the second claim."""
    without(conn, "claim_exports", "for update skip locked")
    with pytest.raises(
        psycopg.errors.ObjectNotInPrerequisiteState, match="claim cannot take"
    ):
        two_claims(conn)


def kept_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file reaches the disk before its name, and the name before `keep` returns."""
    calls: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def spy_fsync(fd: int) -> None:
        calls.append(("fsync", os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))))
        fsync(fd)

    def spy_rename(old: Any, new: Any) -> None:
        calls.append(("rename", os.path.basename(new)))
        rename(old, new)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "rename", spy_rename)
    with Directory(folder).create("x.csv") as partial:
        partial.write(b"n\n")
        partial.keep()
    assert calls == [
        ("fsync", ".x.csv.partial"),
        ("rename", "x.csv"),
        ("fsync", folder.name),
    ]


def test_what_is_kept_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_in_order(tmp_path, monkeypatch)


def test_without_the_flush_that_would_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Partial, "keep", lambda partial: os.rename(partial._path, partial._final)
    )
    with pytest.raises(AssertionError):
        kept_in_order(tmp_path, monkeypatch)


class Lossy:
    """A connection that seems encrypted, and loses the third message."""

    ssl_in_use = True

    def __init__(self, pgconn: Any) -> None:
        self._pgconn = pgconn
        self._messages = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pgconn, name)

    def get_copy_data(self, async_: int) -> Any:
        found = self._pgconn.get_copy_data(async_)
        self._messages += found[0] > 0
        return self._pgconn.get_copy_data(0) if self._messages == 3 else found


def copied(pgconn: Any) -> bytes:
    got = bytearray()
    command = (
        b"copy (select generate_series(1, 50000) as n) to stdout (format csv, header)"
    )
    pump.pump(pgconn, command, got.extend, lambda *_: None, lambda: None, header=True)
    return bytes(got)


def test_a_row_that_is_lost_on_its_way_is_missed(
    conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [b"n", *(b"%d" % n for n in range(1, 50_001)), b""]
    assert copied(conn.pgconn) == b"\n".join(lines)
    split = pump.split
    monkeypatch.setattr(
        pump, "split", lambda data: [p for p in split(data) if bytes(p) != b"40000\n"]
    )
    with pytest.raises(pump.RowsMissing, match="49999 rows arrived, but 50000 were"):
        copied(conn.pgconn)


def test_a_row_that_libpq_loses_is_missed(conn: Conn) -> None:
    with pytest.raises(pump.RowsMissing, match="49999 rows arrived, but 50000 were"):
        copied(Lossy(conn.pgconn))
