"""The state diagram in SQL: all legal transitions, and illegal ones."""

import itertools
from typing import Any

import psycopg
import pytest
from psycopg import errors

Conn = psycopg.Connection[Any]

STATUSES = ("pending", "processing", "completed", "failed", "cancelled")
DIGEST = "a" * 64


def make(conn: Conn, status: str, **columns: Any) -> Any:
    """Bring a new export to *status*, only with our functions; return its id."""
    row = conn.execute("insert into exports default values returning id").fetchone()
    assert row
    (id,) = row
    if status == "cancelled":
        conn.execute("select cancel_export(%s)", [id])
    elif status != "pending":
        claimed = conn.execute(
            "select id from claim_exports('worker', '1 min')"
        ).fetchone()
        assert claimed == (id,)
        if status == "completed":
            conn.execute("select complete_export(%s, 1, 10, 100, %s)", [id, DIGEST])
        elif status == "failed":
            conn.execute("""select fail_export(%s, 1, '{"message": "no"}')""", [id])
    assert value(conn, "select status from exports where id = %s", id) == status
    return id


def value(conn: Conn, statement: Any, *params: Any) -> Any:
    row = conn.execute(statement, params).fetchone()
    return row[0] if row else None


def whole(conn: Conn, id: Any) -> Any:
    return value(conn, "select to_jsonb(e) from exports as e where id = %s", id)


def age_lease(conn: Conn) -> None:
    """Make every lease end a second ago, as if time had passed."""
    conn.execute(
        "update exports set transition = 'heartbeat', lease_expires_at = now() - interval '1 s'"
        " where status = 'processing'"
    )


def age_pause(conn: Conn) -> None:
    """End the pause before the next attempt."""
    conn.execute("update exports set run_at = now() where status = 'pending'")


@pytest.mark.parametrize("before, after", [*itertools.product(STATUSES, STATUSES)])
def test_by_hand_an_export_can_only_be_cancelled(
    conn: Conn, before: str, after: str
) -> None:
    id = make(conn, before)
    old = whole(conn, id)
    allowed = (after == "cancelled" and before in ("pending", "processing")) or (
        before == after != "processing"
    )
    if allowed:
        conn.execute("update exports set status = %s", [after])
        assert value(conn, "select status from exports") == after
    else:
        with pytest.raises(
            errors.ObjectNotInPrerequisiteState, match=f"is {before}: it can"
        ):
            conn.execute("update exports set status = %s", [after])
        assert whole(conn, id) == old


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    "change",
    [
        "attempt = attempt + 1",
        "rows = 5",
        "sql_text = 'select 2'",
        "query = 'select 2', source = null",
        "columns = '{id}'",
        "worker = 'me'",
        "id = gen_random_uuid()",
        "created_at = now() - interval '1 day'",
    ],
)
def test_by_hand_nothing_else_of_an_export_changes(
    conn: Conn, status: str, change: str
) -> None:
    id = make(conn, status)
    old = whole(conn, id)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="by hand"):
        conn.execute(f"update exports set {change}")
    assert whole(conn, id) == old


def test_by_hand_a_pending_export_is_rescheduled_and_an_ended_one_kept_longer(
    conn: Conn,
) -> None:
    make(conn, "completed")
    conn.execute("update exports set expires_at = now() + interval '1 year'")
    id = make(conn, "pending")
    conn.execute(
        "update exports set priority = 7, run_at = now() + interval '1 h' where id = %s",
        [id],
    )
    assert conn.execute("select * from claim_exports('w', '1 min')").fetchall() == []


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    "call, leads_to",
    [
        ("heartbeat_export(id, 1, '1 min', 5, 50)", {"processing": "processing"}),
        (f"complete_export(id, 1, 10, 100, '{DIGEST}')", {"processing": "completed"}),
        ("""fail_export(id, 1, '{"message": "no"}')""", {"processing": "failed"}),
        (
            """fail_export(id, 1, '{"message": "no"}', true)""",
            {"processing": "pending"},
        ),
        ("release_export(id, 1)", {"processing": "pending"}),
        ("cancel_export(id)", {"pending": "cancelled", "processing": "cancelled"}),
        ("retry_export(id)", {"failed": "pending", "cancelled": "pending"}),
    ],
)
def test_functions_take_legal_steps_and_no_others(
    conn: Conn, status: str, call: str, leads_to: dict[str, str]
) -> None:
    id = make(conn, status)
    old = whole(conn, id)
    conn.execute(f"select {call} from exports")
    new = whole(conn, id)
    assert new["status"] == leads_to.get(status, status)
    assert new == old or status in leads_to


@pytest.mark.parametrize("attempt", [0, 2])
@pytest.mark.parametrize(
    "call, refused",
    [
        ("heartbeat_export(id, %s, '1 min', 5, 50)", None),
        (f"complete_export(id, %s, 10, 100, '{DIGEST}')", False),
        ("""fail_export(id, %s, '{"message": "no"}')""", None),
        ("release_export(id, %s)", False),
    ],
)
def test_another_attempt_changes_nothing(
    conn: Conn, call: str, refused: bool | None, attempt: int
) -> None:
    id = make(conn, "processing")
    old = whole(conn, id)
    assert value(conn, f"select {call} from exports", attempt) is refused
    assert whole(conn, id) == old


def test_completing_twice_says_the_same_twice(conn: Conn) -> None:
    id = make(conn, "processing")
    for _ in range(2):
        assert (
            value(conn, "select complete_export(%s, 1, 10, 100, %s)", id, DIGEST)
            is True
        )


def test_claim_takes_the_oldest_of_the_highest_priority(conn: Conn) -> None:
    conn.execute(
        "insert into exports (query, priority, run_at) values ('select 1', 0, now()),"
        " ('select 2', 0, now()), ('select 3', 5, now()),"
        " ('select 4', 9, now() + interval '1 h')"
    )
    order = [
        value(conn, "select query from claim_exports('w', '1 min')") for _ in range(4)
    ]
    assert order == ["select 3", "select 1", "select 2", None]


def test_two_claims_at_once_take_two_exports(database: str, conn: Conn) -> None:
    conn.execute("insert into exports (query) values ('select 1'), ('select 2')")
    with psycopg.connect(database) as one, psycopg.connect(database) as other:
        claims = [
            value(each, "select query from claim_exports('w', '1 min')")
            for each in (one, other)
        ]
        third = value(conn, "select query from claim_exports('w', '1 min')")
    assert claims == ["select 1", "select 2"]
    assert third is None


def test_rescue_takes_back_what_a_lost_worker_held(conn: Conn) -> None:
    id = make(conn, "processing")
    assert value(conn, "select count(*) from rescue_exports()") == 0
    for attempt in (1, 2, 3, 4):
        age_lease(conn)
        assert value(conn, "select status from rescue_exports()") == "pending"
        assert value(conn, "select count(*) from claim_exports('w', '1 min')") == 0
        age_pause(conn)
        assert (
            value(conn, "select heartbeat_export(%s, %s, '1 min', 5, 50)", id, attempt)
            is None
        )
        assert (
            value(conn, "select attempt from claim_exports('w', '1 min')")
            == attempt + 1
        )
    age_lease(conn)
    assert value(conn, "select status from rescue_exports()") == "failed"
    error = value(conn, "select error ->> 'message' from exports")
    assert error == "the lease of attempt 5 ran out: worker w was lost"
    history = value(conn, "select history from exports")
    assert [(h["attempt"], h["outcome"]) for h in history] == [
        (n, "lost") for n in range(1, 6)
    ]
    assert history[4]["error"]["message"] == error


def test_a_retry_has_all_its_attempts_again(conn: Conn) -> None:
    make(conn, "failed")
    row = conn.execute("select failures, attempt from exports").fetchone()
    assert row == (1, 1)
    conn.execute("select retry_export(id) from exports")
    row = conn.execute(
        "select failures, attempt, error, started_at from exports"
    ).fetchone()
    assert row == (0, 1, None, None)


def test_a_failure_is_retried_while_attempts_are_left(conn: Conn) -> None:
    make(conn, "pending")
    pauses = []
    for left in ("pending", "pending", "pending", "pending", "failed"):
        status = value(
            conn,
            """select fail_export(id, attempt, '{"message": "gone"}', true)"""
            " from claim_exports('w', '1 min')",
        )
        assert status == left
        pauses.append(
            value(conn, "select extract(epoch from run_at - now()) from exports")
        )
        age_pause(conn)
    assert value(conn, "select failures from exports") == 5
    for pause, longest in zip(pauses, (4, 16, 64, 256)):
        assert longest / 2 - 1 < pause <= longest


def test_every_attempt_says_how_it_ended(conn: Conn) -> None:
    id = make(conn, "pending")
    for call in (
        """fail_export(id, attempt, '{"message": "gone", "sqlstate": "08006"}', true)""",
        "release_export(id, attempt)",
        "cancel_export(id)",
    ):
        age_pause(conn)
        conn.execute(f"select {call} from claim_exports('w', '1 min')")
    conn.execute("select retry_export(%s)", [id])
    conn.execute(
        "select complete_export(id, attempt, 1, 1, %s) from claim_exports('v', '1 min')",
        [DIGEST],
    )
    history = value(conn, "select history from exports")
    assert [(h["attempt"], h["worker"], h["outcome"]) for h in history] == [
        (1, "w", "failed"),
        (2, "w", "released"),
        (3, "w", "cancelled"),
        (4, "v", "completed"),
    ]
    assert history[0]["error"] == {"message": "gone", "sqlstate": "08006"}
    assert all("error" not in later for later in history[1:])
    ends = [h["endedAt"] for h in history]
    assert ends == sorted(ends)


def test_no_more_than_max_pending_wait(conn: Conn) -> None:
    conn.execute("select set_config('exports.max_pending', '2', false)")
    make(conn, "pending")
    make(conn, "pending")
    with pytest.raises(
        errors.ConfigurationLimitExceeded, match="2 exports are waiting"
    ):
        make(conn, "pending")
    conn.execute("select cancel_export(id) from exports")
    make(conn, "pending")


def test_claims_above_the_floor_and_everywhere(conn: Conn) -> None:
    """An export below the floor is only claimed by a claim without floors."""
    first, second = make(conn, "pending"), make(conn, "pending")
    floors = [None] * 10
    floors[5] = value(conn, "select turn from exports where id = %s", second)
    claim = "select id from claim_exports('w', '1 min', %s::bigint[])"
    assert value(conn, claim, floors) == second
    assert value(conn, claim, floors) is None
    assert value(conn, claim, []) == first


def test_the_next_that_is_due_is_known(conn: Conn) -> None:
    due = "select extract(epoch from next_export_in())"
    make(conn, "pending")
    assert value(conn, due) is None
    conn.execute(
        "insert into exports (query, priority, run_at) values"
        " ('select 1', 9, now() + interval '1 h'), ('select 2', 0, now() + interval '1 min')"
    )
    assert 50 < value(conn, due) < 60


def test_debris_is_what_no_export_refers_to(conn: Conn) -> None:
    done, running = make(conn, "completed"), make(conn, "processing")
    deleted, expired = make(conn, "completed"), make(conn, "completed")
    conn.execute("delete from exports where id = %s", [deleted])
    conn.execute(
        "update exports set expires_at = now() - interval '1 s' where id = %s",
        [expired],
    )
    stranger = "00000000-0000-0000-0000-000000000000"
    names = [
        f"{id}-{attempt}.csv"
        for id in (done, running, deleted, expired, stranger)
        for attempt in (1, 2)
    ]
    found = conn.execute("select * from find_debris(%s)", [names]).fetchall()
    assert dict(found) == {
        f"{done}-2.csv": True,
        f"{running}-2.csv": True,
        f"{deleted}-1.csv": True,
        f"{deleted}-2.csv": False,
        f"{expired}-1.csv": True,
        f"{expired}-2.csv": True,
        f"{stranger}-1.csv": False,
        f"{stranger}-2.csv": False,
    }


def test_releasing_counts_no_failure_and_keeps_the_place(conn: Conn) -> None:
    first = make(conn, "processing")
    make_second = conn.execute("insert into exports default values returning id")
    assert make_second.fetchone()
    assert value(conn, "select release_export(%s, 1)", first) is True
    assert conn.execute(
        "select id, attempt, failures from claim_exports('w', '1 min')"
    ).fetchone() == (
        first,
        2,
        0,
    )


def test_progress_never_says_done_too_early(conn: Conn) -> None:
    id = make(conn, "processing")
    for rows, percent in ((0, 0), (1_000, 50), (1_999, 99), (5_000, 99)):
        conn.execute("select heartbeat_export(%s, 1, '1 min', %s, 0)", [id, rows])
        assert value(conn, "select progress from exports") == percent
    conn.execute("select complete_export(%s, 1, 5000, 1, %s)", [id, DIGEST])
    assert value(conn, "select progress from exports") == 100


@pytest.mark.parametrize(
    "columns, constraint",
    [
        ("max_attempts) values (0", "attempts_are_counted"),
        ("max_attempts) values (1000", "attempts_are_counted"),
    ],
)
def test_bad_rows_are_impossible(conn: Conn, columns: str, constraint: str) -> None:
    with pytest.raises(errors.CheckViolation, match=constraint):
        conn.execute(f"insert into exports ({columns})")


def test_notifications_say_look_once_a_statement(database: str, conn: Conn) -> None:
    with psycopg.connect(database, autocommit=True) as ears:
        ears.execute("listen exports")
        ears.execute("listen exports_pending")

        def heard() -> list[tuple[str, str]]:
            return [(n.channel, n.payload) for n in ears.notifies(timeout=0)]

        ears.execute("select 1")
        id = str(make(conn, "pending"))
        ears.execute("select 1")
        assert heard() == [("exports", id), ("exports_pending", "")]
        conn.execute(
            "insert into exports (query) select 'select ' || n from generate_series(1, 50) n"
        )
        ears.execute("select 1")
        assert heard() == [("exports", ""), ("exports_pending", "")]
        conn.execute("select claim_exports('w', '1 min')")
        ears.execute("select 1")
        assert heard() == [("exports", id)]
        conn.execute("select heartbeat_export(%s, 1, '1 min', 1, 1)", [id])
        ears.execute("select 1")
        assert heard() == []
        conn.execute("update exports set status = 'cancelled' where id = %s", [id])
        ears.execute("select 1")
        assert heard() == [("exports", id)]
        conn.execute("delete from exports where id = %s", [id])
        ears.execute("select 1")
        assert heard() == [("exports", id)]


@pytest.mark.parametrize("pending", [0, 10, 3_000])
def test_claim_reads_its_partial_index_and_nothing_else(
    conn: Conn, pending: int
) -> None:
    """The plan is the same with any statistics: none, few rows, or many."""
    conn.execute(
        "insert into exports (query) select 'select 1' from generate_series(1, %s)",
        [pending],
    )
    conn.execute("select pg_stat_force_next_flush()")  # of what the insert has read
    with conn.transaction():
        for _ in range(12):  # more calls than it takes to get a generic plan
            conn.execute("select claim_exports('w', '1 min', array[0])")
        scans = conn.execute(
            "select indexrelid::regclass::text from pg_index"
            " where indrelid = 'exports'::regclass"
            " and pg_stat_get_xact_numscans(indexrelid) > 0"
        ).fetchall()
        sequential = value(
            conn,
            "select pg_stat_get_xact_numscans('exports'::regclass)",
        )
    assert {name for (name,) in scans} - {"exports_pkey"} == {"exports_to_claim"}
    assert sequential == 0


def test_every_object_explains_itself(conn: Conn) -> None:
    undocumented = conn.execute(
        "select p.oid::regprocedure::text from pg_proc p"
        " where pronamespace = 'public'::regnamespace and obj_description(oid, 'pg_proc') is null"
        " union all select oid::regclass::text from pg_class"
        " where relnamespace = 'public'::regnamespace and obj_description(oid, 'pg_class') is null"
        " and (relkind in ('r', 'v') or relkind = 'i' and relname like 'exports_%'"
        " and relname not like '%_pkey' and relname not like '%_key')"
    ).fetchall()
    assert undocumented == []
