"""The log of activities: what is written, for whom, and who may touch it."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

Conn = psycopg.Connection[Any]

BY_HAND = (
    "insert into activities (action) values ('submitted')",
    "update activities set actor = 'mallory'",
    "delete from activities",
    "truncate activities",
    "select from activities",
    "select log_activity('downloaded', 'ann', 'ann', null, null)",
    "select prune_activities('0')",
    "insert into activity (action) values ('submitted')",
    "delete from activity",
)


@pytest.fixture
def submitter(conn: Conn) -> Iterator[str]:
    """A role that may submit, cancel and delete, and read its own activity."""
    conn.execute("create role submitter")
    conn.execute(
        "grant select, insert, delete, update (status) on exports to submitter;"
        "grant insert on deleted_files to submitter;"
        "grant select on live_exports, sources, activity to submitter;"
        "grant execute on function explain_as_reader to submitter"
    )
    yield "submitter"
    conn.execute("reset session authorization")
    conn.execute("drop owned by submitter; drop role submitter")


def logged(conn: Conn, columns: str = "action") -> list[Any]:
    """Return the log, the oldest first."""
    rows = conn.execute(f"select {columns} from activities order by at, id").fetchall()
    return [row[0] for row in rows] if "," not in columns else rows


def submit(conn: Conn, query: str = "select 1") -> str:
    row = conn.execute(
        "insert into exports (query) values (%s) returning id", [query]
    ).fetchone()
    assert row
    return str(row[0])


def complete(conn: Conn, id: str) -> None:
    conn.execute(
        "select complete_export(%s, attempt, 7, 70, repeat('0', 64)) from exports"
        " where id = %s",
        [id, id],
    )


def test_each_step_of_an_export_is_logged(conn: Conn) -> None:
    id = submit(conn)
    conn.execute("select claim_export('host:1', '1 min')")
    conn.execute("select heartbeat_export(%s, 1, '1 min', 1, 10)", [id])
    conn.execute("select release_export(%s, 1)", [id])
    conn.execute("update exports set priority = 9")
    conn.execute("select claim_export('host:2', '1 min')")
    conn.execute("""select fail_export(%s, 2, '{"message": "no"}')""", [id])
    conn.execute("select retry_export(%s)", [id])
    conn.execute("select cancel_export(%s)", [id])
    conn.execute("select retry_export(%s)", [id])
    conn.execute("select claim_export('host:3', '1 min')")
    complete(conn, id)
    conn.execute("select delete_export(%s)", [id])
    assert logged(conn, "action, bytes, detail") == [
        ("submitted", None, {"query": "select 1"}),
        ("started", None, {"attempt": 1, "worker": "host:1"}),
        ("started", None, {"attempt": 2, "worker": "host:2"}),
        ("failed", 0, {"attempt": 2}),
        ("retried", None, None),
        ("cancelled", 0, None),
        ("retried", None, None),
        ("started", None, {"attempt": 3, "worker": "host:3"}),
        ("completed", 70, {"attempt": 3, "rows": 7}),
        ("deleted", None, None),
    ]
    [(exports, requesters, actors, age)] = conn.execute(
        "select array_agg(distinct export::text), array_agg(distinct requester),"
        " array_agg(distinct actor), clock_timestamp() - min(at) < '1 min'"
        " from activities"
    ).fetchall()
    assert (exports, requesters, actors, age) == (
        [id],
        ["postgres"],
        ["postgres"],
        True,
    )


def test_one_statement_logs_each_of_its_exports(conn: Conn) -> None:
    conn.execute(
        "insert into exports (source) select 'users' from generate_series(1, 50)"
    )
    conn.execute("select claim_export('w', '1 min', '{}', 30)")
    conn.execute("update exports set status = 'cancelled'")
    conn.execute("delete from exports")
    found = conn.execute(
        "select action, count(*), count(distinct export) from activities"
        " group by 1 order by min(id)"
    ).fetchall()
    assert found == [
        ("submitted", 50, 50),
        ("started", 30, 30),
        ("cancelled", 50, 50),
        ("deleted", 50, 50),
    ]


def test_a_rolled_back_act_was_none(conn: Conn) -> None:
    with conn.transaction(force_rollback=True):
        submit(conn)
    assert logged(conn) == []


def test_a_long_query_is_cut(conn: Conn) -> None:
    submit(conn, f"select '{'x' * 10_000}'")
    [detail] = logged(conn, "detail")
    assert detail["query"].startswith("select 'xxx") and len(detail["query"]) == 200


def test_forgotten_exports_are_told_from_deleted_ones(conn: Conn) -> None:
    for id in (submit(conn), submit(conn)):
        conn.execute("select cancel_export(%s)", [id])
    assert conn.execute("select prune_exports('0', 1)").fetchone() == (1,)
    conn.execute("delete from exports")
    assert logged(conn)[-2:] == ["forgotten", "deleted"]


def test_a_role_is_logged_whatever_it_sets(conn: Conn, submitter: str) -> None:
    """Only the service is believed when it says for whom it acts."""
    for setting, value in (
        ("requester", "ann"),
        ("key", "000000000000"),
        ("address", "192.0.2.1"),
        ("forgets", "on"),
    ):
        conn.execute(f"set exports.{setting} = '{value}'")
    conn.execute(f"set session authorization {submitter}")
    id = submit(conn)
    conn.execute("select cancel_export(%s)", [id])
    conn.execute("select delete_export(%s)", [id])
    seen = conn.execute("select action from activity order by at, id").fetchall()
    assert seen == [("submitted",), ("cancelled",), ("deleted",)]
    conn.execute("set session authorization csv_service")
    submit(conn)
    conn.execute("reset session authorization")
    assert logged(conn, "action, requester, actor, key_id, address") == [
        ("submitted", submitter, submitter, None, None),
        ("cancelled", submitter, submitter, None, None),
        ("deleted", submitter, submitter, None, None),
        ("submitted", "ann", "ann", "000000000000", "192.0.2.1"),
    ]


def test_psql_users_see_their_own_alone(conn: Conn, submitter: str) -> None:
    mine = submit(conn, "select 'of postgres'")
    conn.execute("grant csv_admin to submitter")
    conn.execute(f"set session authorization {submitter}")
    theirs = submit(conn)
    conn.execute("select cancel_export(%s)", [mine])
    conn.execute("reset session authorization; revoke csv_admin from submitter")
    conn.execute(f"set session authorization {submitter}")
    # Without a barrier, this condition would be asked about every row.
    conn.execute(
        "create function pg_temp.tell(text) returns boolean language plpgsql cost 0.0001"
        " as $$ begin raise notice '%', $1; return true; end $$"
    )
    notices: list[str] = []
    conn.add_notice_handler(lambda one: notices.append(str(one.message_primary)))
    seen = conn.execute(
        "select action, export::text, requester, actor from activity"
        " where pg_temp.tell(export::text) order by at, id"
    ).fetchall()
    assert seen == [
        ("submitted", theirs, submitter, submitter),
        ("cancelled", mine, "postgres", submitter),
    ]
    assert notices == [theirs, mine]
    conn.execute("reset session authorization")
    conn.execute("grant csv_admin to submitter")
    for role in ("csv_service", submitter):
        conn.execute(f"set session authorization {role}")
        assert conn.execute("select from activity").rowcount == 3


def test_nobody_writes_the_log_by_hand(conn: Conn, submitter: str) -> None:
    submit(conn)
    before = logged(conn, "at, id, action, actor")
    for role in (submitter, "csv_reader"):
        conn.execute(f"set session authorization {role}")
        for statement in BY_HAND:
            with pytest.raises(errors.InsufficientPrivilege):
                conn.execute(statement)
        conn.execute("reset session authorization")
    for statement in ("update activities set actor = 'x'", "truncate activities"):
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="stays as it is"):
            conn.execute(statement)
    assert logged(conn, "at, id, action, actor") == before


def test_nobody_makes_a_trigger_that_writes_the_log(conn: Conn, submitter: str) -> None:
    conn.execute(f"set session authorization {submitter}")
    conn.execute("create temp table exports (like public.exports)")
    with pytest.raises(errors.InsufficientPrivilege):
        conn.execute(
            "create trigger forge after insert on pg_temp.exports"
            " referencing new table as new_rows"
            " for each statement execute function log_exports()"
        )


def test_an_action_is_one_of_those_that_are_known(conn: Conn) -> None:
    with pytest.raises(errors.CheckViolation):
        conn.execute("insert into activities (action) values ('praised')")


def test_what_happens_to_keys_is_logged(conn: Conn) -> None:
    def made(call: str, *parameters: str) -> str:
        row = conn.execute(f"select id from {call}", parameters).fetchone()
        assert row
        return str(row[0])

    first = made("create_key('ann', '{read}', '1 d', 'nightly')")
    second = made("rotate_key(%s)", first)
    session = made("create_session(%s)", second)
    conn.execute("select find_key(digest) from requester_keys")
    conn.execute("select revoke_key(%s)", [first])
    conn.execute("select revoke_key(%s)", [first])
    conn.execute("delete from requesters")
    found = logged(conn, "action, requester, actor, detail")
    assert {(who, actor) for _, who, actor, _ in found} == {("ann", "postgres")}
    about = [
        (action, detail["key"], detail.get("by")) for action, _, _, detail in found
    ]
    assert about[:5] == [
        ("key-made", first, None),
        ("key-made", second, None),
        ("key-rotated", first, second),
        ("key-made", session, None),
        ("key-revoked", first, None),
    ]
    assert sorted(about[5:]) == sorted(
        [("key-revoked", second, None), ("key-revoked", session, None)]
    )
    assert found[0][3] == {"key": first, "label": "nightly", "scopes": ["read"]}


def test_old_activities_are_deleted_in_batches(conn: Conn) -> None:
    conn.execute(
        "insert into activities (at, action)"
        " select now() - n * interval '1 d', 'downloaded' from generate_series(0, 9) as n"
    )
    prune = "select prune_activities('4 d 12 h', 3)"
    assert [conn.execute(prune).fetchone() for _ in range(3)] == [(3,), (2,), (0,)]
    assert conn.execute(
        "select min(at) > now() - interval '5 d' from activities"
    ).fetchone() == (True,)
    plan = conn.execute(
        "explain select at, id from activities where at < now() order by at, id limit 9"
    ).fetchall()
    assert "activities_pkey" in str(plan)


def test_pages_of_the_log(conn: Conn) -> None:
    conn.execute(
        "insert into activities (at, action, requester)"
        " select '2026-01-01', 'downloaded', 'ann' from generate_series(1, 5)"
    )
    seen: list[int] = []
    before: Any = [None, None]
    while page := conn.execute(
        "select at, id from list_activities(2, p_before_at => %s, p_before_id => %s)",
        before,
    ).fetchall():
        seen += [id for _, id in page]
        before = page[-1]
    assert len(seen) == 5 and seen == sorted(seen, reverse=True)
    for restriction, count in (
        ("p_requester => 'ann'", 5),
        ("p_requester => 'bob'", 0),
        ("p_action => 'deleted'", 0),
        ("p_from => '2026-01-01'", 5),
        ("p_until => '2026-01-01'", 0),
        ("p_export => gen_random_uuid()", 0),
    ):
        found = conn.execute(f"select from list_activities(9, {restriction})")
        assert found.rowcount == count
