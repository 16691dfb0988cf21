"""Fair turns, and the limits of requesters."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from .test_transitions import DIGEST, age_lease, value

Conn = psycopg.Connection[Any]


def submit(conn: Conn, requester: str, count: int = 1, priority: int = 5) -> None:
    with conn.transaction():
        conn.execute("select set_config('exports.requester', %s, true)", [requester])
        conn.execute(
            "insert into exports (query, priority) select 'select ' || n, %s"
            " from generate_series(1, %s) as n",
            [priority, count],
        )


def claim(conn: Conn, limit: int = 1) -> list[str]:
    """Return whose exports are claimed, in the order of their turns."""
    rows = conn.execute(
        "select requested_by from claim_exports('w', '1 min', '{}', %s)"
        " order by priority desc, turn, id",
        [limit],
    )
    return [requester for (requester,) in rows]


def limit(conn: Conn, requester: str, **limits: int | None) -> None:
    conn.execute("select set_requester(%s, %s)", [requester, Jsonb(limits)])


def end_all(conn: Conn, requester: str) -> None:
    conn.execute(
        "select complete_export(id, attempt, 1, 1, %s) from exports"
        " where status = 'processing' and requested_by = %s",
        [DIGEST, requester],
    )


def waits(conn: Conn, requester: str) -> Counter[str]:
    """Return how many exports of the requester wait for what, or run."""
    rows = conn.execute(
        "select coalesce(waits_for, status::text) from exports where requested_by = %s"
        " and status in ('pending', 'processing')",
        [requester],
    )
    return Counter(found for (found,) in rows)


def test_a_backlog_delays_others_by_no_more_than_a_turn(conn: Conn) -> None:
    submit(conn, "ann", 300)
    submit(conn, "bob")
    assert "bob" in claim(conn, 2)
    claim(conn, 100)
    for requester in ("carol", "dave", "bob"):
        submit(conn, requester)
        assert requester in claim(conn, 2)


def test_each_is_served_in_the_order_of_their_own_submits(conn: Conn) -> None:
    for _ in range(5):
        submit(conn, "ann", 3)
        submit(conn, "bob", 2)
    claimed = conn.execute(
        "select array_agg(created_at order by turn) from ("
        " select * from claim_exports('w', '1 min', '{}', 25)) as e group by requested_by"
    ).fetchall()
    assert len(claimed) == 2
    for (instants,) in claimed:
        assert instants == sorted(instants)


def test_shares_are_by_weight(conn: Conn) -> None:
    limit(conn, "carol", weight=2)
    for requester in ("ann", "bob", "carol"):
        submit(conn, requester, 300)
    shares = Counter(who for _ in range(25) for who in claim(conn, 8))
    assert shares["ann"] == pytest.approx(50, abs=1)
    assert shares["bob"] == pytest.approx(50, abs=1)
    assert shares["carol"] == pytest.approx(100, abs=1)


def test_priorities_have_turns_of_their_own(conn: Conn) -> None:
    """What was done at one priority does not put anybody back at another one."""
    submit(conn, "ann", 50, priority=9)
    submit(conn, "ann", 50, priority=5)
    assert claim(conn, 50) == ["ann"] * 50
    submit(conn, "bob")
    assert "bob" in claim(conn, 2)


def test_who_was_alone_is_not_put_back_for_it(conn: Conn) -> None:
    submit(conn, "ann", 200)
    claim(conn, 150)
    submit(conn, "bob", 100)
    assert Counter(claim(conn, 40)) == {"ann": 20, "bob": 20}


def test_what_is_put_off_gets_a_turn_when_it_is_due(conn: Conn) -> None:
    submit(conn, "ann", 100)
    conn.execute(
        "insert into exports (query, run_at) values ('select 1', now() + interval '1 h')"
    )
    (me,) = conn.execute("select session_user").fetchone() or ("",)
    assert waits(conn, me) == {"time": 1}
    claim(conn, 50)
    conn.execute("set session_replication_role = replica")  # as if time had passed
    conn.execute("update exports set run_at = now() where waits_for = 'time'")
    conn.execute("reset session_replication_role")
    assert me in claim(conn, 2)


def test_no_more_run_than_allowed(conn: Conn) -> None:
    limit(conn, "ann", max_running=2)
    submit(conn, "ann", 6)
    submit(conn, "bob", 2)
    assert waits(conn, "ann") == {"worker": 2, "limit": 4}
    assert Counter(claim(conn, 10)) == {"ann": 2, "bob": 2}
    assert claim(conn, 10) == []
    end_all(conn, "ann")
    assert waits(conn, "ann") == {"worker": 2, "limit": 2}


ENDS: dict[str, str] = {
    "complete": f"select complete_export(id, attempt, 1, 1, '{DIGEST}')",
    "fail": """select fail_export(id, attempt, '{"message": "no"}')""",
    "try again": """select fail_export(id, attempt, '{"message": "no"}', true)""",
    "cancel": "select cancel_export(id)",
    "delete": "select delete_export(id)",
}


@pytest.mark.parametrize("way", ENDS)
def test_however_one_ends_the_next_has_its_place(conn: Conn, way: str) -> None:
    limit(conn, "ann", max_running=1)
    submit(conn, "ann", 3)
    assert claim(conn) == ["ann"]
    first, *others = conn.execute("select id from exports order by turn").fetchall()
    end = f"{ENDS[way]} from exports where status = 'processing'"
    conn.execute(end.encode())
    assert claim(conn, 3) == ["ann"]
    assert waits(conn, "ann")["processing"] == 1
    order = "select id from exports where status = 'processing'"
    assert conn.execute(order).fetchall() == others[:1]


def test_a_lost_worker_and_one_that_hands_back_keep_the_count(conn: Conn) -> None:
    limit(conn, "ann", max_running=1)
    submit(conn, "ann", 3)
    claim(conn)
    conn.execute(
        "select release_export(id, 1) from exports where status = 'processing'"
    )
    assert waits(conn, "ann") == {"worker": 1, "limit": 2}
    claim(conn)
    age_lease(conn)
    conn.execute("select rescue_exports()")
    assert waits(conn, "ann") == {"worker": 1, "limit": 1, "time": 1}


def test_a_limit_that_changes_holds_at_once(conn: Conn) -> None:
    submit(conn, "ann", 6)
    claim(conn, 2)
    limit(conn, "ann", max_running=3)
    assert waits(conn, "ann") == {"processing": 2, "worker": 1, "limit": 3}
    limit(conn, "ann", max_running=0)
    assert waits(conn, "ann") == {"processing": 2, "limit": 4}
    limit(conn, "ann", max_running=4)
    assert waits(conn, "ann") == {"processing": 2, "worker": 2, "limit": 2}
    conn.execute("delete from requesters")
    assert waits(conn, "ann") == {"processing": 2, "worker": 4}


def test_higher_priorities_are_admitted_first(conn: Conn) -> None:
    limit(conn, "ann", max_running=1)
    submit(conn, "ann", 2)
    submit(conn, "ann", priority=9)
    claim(conn)
    end_all(conn, "ann")
    assert value(conn, "select priority from claim_exports('w', '1 min')") == 9


def test_an_open_transaction_delays_its_own_requester_alone(
    database: str, conn: Conn
) -> None:
    limit(conn, "ann", max_running=1)
    submit(conn, "ann", 3)
    claim(conn)
    with psycopg.connect(database) as idle, idle.transaction():
        submit(idle, "ann")  # not committed: it has the lock of the requester
        end_all(conn, "ann")  # which does not wait for it
        assert waits(conn, "ann") == {"limit": 2}
        submit(conn, "bob")
        assert claim(conn, 5) == ["bob"]
    assert claim(conn, 5) == ["ann"]


def test_an_old_snapshot_admits_nothing(database: str, conn: Conn) -> None:
    """It would count what ran when it was taken."""
    limit(conn, "ann", max_running=1)
    with psycopg.connect(database) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("select from exports")
        submit(conn, "ann")
        claim(conn)
        submit(old, "ann")
    assert waits(conn, "ann") == {"processing": 1, "limit": 1}


def test_limits_hold_whatever_happens_at_once(database: str, conn: Conn) -> None:
    limits = {"ann": 1, "bob": 2, "carol": None}
    for requester, most in limits.items():
        limit(conn, requester, max_running=most)
    problems: list[object] = []
    done = threading.Event()

    def guarded(act: Callable[[Conn], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                with psycopg.connect(database, autocommit=True) as mine:
                    act(mine)
            except BaseException as error:
                problems.append(error)

        return run

    def work(mine: Conn) -> None:
        chance = random.Random(7)
        for _ in range(60):
            requester = chance.choice(list(limits))
            submit(mine, requester, chance.randint(1, 3))
            claimed = mine.execute(
                "select id, attempt from claim_exports('w', '1 min', '{}', 2)"
            ).fetchall()
            for id, attempt in claimed:
                match chance.randint(0, 4):
                    case 0:
                        mine.execute("select cancel_export(%s)", [id])
                    case 1:
                        mine.execute("select release_export(%s, %s)", [id, attempt])
                    case 2:
                        mine.execute("select delete_export(%s)", [id])
                    case _:
                        mine.execute(
                            "select complete_export(%s, %s, 1, 1, %s)",
                            [id, attempt, DIGEST],
                        )

    def watch(mine: Conn) -> None:
        while not done.is_set():
            problems.extend(
                mine.execute(
                    "select name, count(*) from exports join requesters"
                    " on name = requested_by where status = 'processing'"
                    " group by name having count(*) > max_running"
                )
            )

    watcher = threading.Thread(target=guarded(watch))
    workers = [threading.Thread(target=guarded(work)) for _ in range(4)]
    for thread in (watcher, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    watcher.join()
    assert not problems
    while any(claim(conn, 10)):
        for requester in limits:
            end_all(conn, requester)
    left = value(conn, "select count(*) from exports where status = 'pending'")
    assert left == 0


def test_how_many_may_wait(conn: Conn) -> None:
    limit(conn, "ann", max_pending=2)
    submit(conn, "ann", 2)
    with pytest.raises(
        errors.ConfigurationLimitExceeded, match="2 exports of ann are waiting"
    ) as refused:
        submit(conn, "ann")
    assert refused.value.diag.column_name == "max_pending"
    submit(conn, "bob", 5)
    claim(conn, 2)
    submit(conn, "ann")
    limit(conn, "ann", max_pending=0)
    with pytest.raises(errors.ConfigurationLimitExceeded, match="0 exports of ann"):
        submit(conn, "ann")


def test_how_many_bytes_a_day(conn: Conn) -> None:
    limit(conn, "ann", max_bytes_a_day=100)
    for _ in range(2):
        submit(conn, "ann")
        conn.execute(
            "select complete_export(id, attempt, 1, 60, %s)"
            " from claim_exports('w', '1 min')",
            [DIGEST],
        )
    conn.execute("select delete_export(id) from exports")  # does not give them back
    with pytest.raises(
        errors.ConfigurationLimitExceeded, match="made 120 bytes today, and 100"
    ) as refused:
        submit(conn, "ann")
    assert refused.value.diag.column_name == "max_bytes_a_day"
    usage = "select bytes_today from requester_usage('ann')"
    assert value(conn, usage) == 120
    conn.execute("update requester_days set day = day - 1")
    submit(conn, "ann")
    assert value(conn, usage) == 0


def test_how_high_a_priority(conn: Conn) -> None:
    limit(conn, "ann", max_priority=3)
    with pytest.raises(
        errors.CheckViolation, match="5 is above 3, the highest for ann"
    ):
        submit(conn, "ann")
    submit(conn, "ann", priority=3)
    with conn.transaction():
        conn.execute("set local exports.requester to 'ann'")
        conn.execute("insert into exports (query) values ('select 1')")
    with pytest.raises(errors.CheckViolation, match="9 is above 3"):
        conn.execute("update exports set priority = 9")
    assert conn.execute("select distinct priority from exports").fetchall() == [(3,)]


def test_the_limits_of_a_file_go_with_it_and_cannot_be_given(conn: Conn) -> None:
    limit(conn, "ann", max_rows=10, max_bytes=20, max_seconds=30)
    submit(conn, "ann")
    limit(conn, "ann", max_rows=99)
    kept = "select max_rows, max_bytes, max_seconds from exports"
    assert conn.execute(kept).fetchall() == [(10, 20, 30)]
    for column, given in {
        "max_rows": "1",
        "max_bytes": "1",
        "max_seconds": "1",
        "turn": "1",
        "waits_for": "'worker'",
    }.items():
        insert = f"insert into exports (query, {column}) values ('select 1', {given})"
        with pytest.raises(errors.CheckViolation, match="starts as pending"):
            conn.execute(insert.encode())
        if given == "1":
            given = "2"
        else:
            given = "'time'"
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            conn.execute(f"update exports set {column} = {given}".encode())


def test_a_psql_user_has_limits_and_does_not_learn_those_of_others(conn: Conn) -> None:
    conn.execute("create role analyst")
    conn.execute(
        "grant select, insert, update (status) on exports to analyst;"
        "grant select on live_exports to analyst;"
        "grant execute on function explain_as_reader to analyst"
    )
    try:
        limit(conn, "analyst", max_running=1, max_pending=2)
        limit(conn, "ann", max_pending=1)
        submit(conn, "ann")
        conn.execute("set session authorization analyst")
        conn.execute("insert into exports (query) values ('select 1'), ('select 2')")
        with pytest.raises(errors.ConfigurationLimitExceeded, match="of analyst"):
            conn.execute("insert into exports (query) values ('select 3')")
        assert waits(conn, "analyst") == {"worker": 1, "limit": 1}
        conn.execute(
            "update exports set status = 'cancelled'"
            " where requested_by = 'analyst' and waits_for = 'worker'"
        )
        assert waits(conn, "analyst") == {"worker": 1}
        told = conn.execute("select name from check_limits('ann')").fetchall()
        assert told == [(None,)]
        for forbidden in (
            "select admit('ann')",
            "select * from requesters",
            "update requesters set max_running = 9",
            "select * from requester_days",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                conn.execute(forbidden)
    finally:
        conn.execute("reset session authorization")
        conn.execute("drop owned by analyst; drop role analyst")
