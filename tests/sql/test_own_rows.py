"""psql users see and touch what is theirs; members of csv_admin all."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import errors

from ..history import fill
from .test_transitions import value

Conn = psycopg.Connection[Any]

MEMBERS = "alice", "bob", "boss"


@pytest.fixture
def users(conn: Conn) -> Iterator[Conn]:
    """Alice and Bob, who have all grants of docs/sql.md, and Boss, who is an admin."""
    for user in MEMBERS[:2]:
        conn.execute(f"create role {user}".encode())
        for grant in (
            "select, insert, delete, update (status, priority, run_at, max_attempts, expires_at)"
            " on exports",
            "select on live_exports, sources",
            "execute on function explain_as_reader, preview_as_reader",
        ):
            conn.execute(f"grant {grant} to {user}".encode())
    conn.execute("create role boss in role csv_admin")
    yield conn
    conn.execute("reset session authorization")
    conn.execute("drop owned by alice, bob, boss; drop role alice, bob, boss")


@contextmanager
def session_of(conn: Conn, user: str) -> Iterator[None]:
    conn.execute(f"set session authorization {user}".encode())
    try:
        yield
    finally:
        conn.execute("reset session authorization")


def submit(conn: Conn, user: str, query: str = "select 1") -> Any:
    with session_of(conn, user):
        return value(
            conn, "insert into exports (query) values (%s) returning id", query
        )


READS = (
    "select id from exports",
    "select id from live_exports",
    "select id from list_exports(100)",
    "select id from list_exports(100, p_requested_by => 'bob')",
    "select id from watch_exports(%(all)s, true, true, '-infinity')",
    "select id from exports where requested_by = 'bob'",
    "select id from live_exports where id = any(%(all)s)",
    "update exports set status = 'cancelled' returning id",
    "update exports set priority = 9 returning id",
    "delete from exports returning id",
    "select id from exports for update",
    "select a.id from exports as a full join live_exports as b using (id)",
    "with gone as (delete from exports returning id) select id from gone",
    "insert into exports (query) select query from exports returning"
    " (select min(id::text)::uuid from exports where requested_by = 'bob')",
    "select e.id from unnest(%(all)s::uuid[]) as of (id) join exports as e"
    " on e.id = of.id",
)


@pytest.mark.parametrize("read", READS)
def test_nothing_of_others_is_read_or_changed(users: Conn, read: str) -> None:
    ids = {user: submit(users, user) for user in ("alice", "bob")}
    whole = "select to_jsonb(e) from exports as e where requested_by = 'bob'"
    before = users.execute(whole).fetchall()
    with users.transaction(force_rollback=True):
        with session_of(users, "alice"):
            found = users.execute(read.encode(), {"all": list(ids.values())}).fetchall()
        assert {id for (id,) in found} <= {ids["alice"], None}
        assert users.execute(whole).fetchall() == before


@pytest.mark.parametrize("function", ["cancel_export", "delete_export"])
def test_functions_find_no_export_of_another(users: Conn, function: str) -> None:
    ids = {user: submit(users, user) for user in ("alice", "bob")}
    with session_of(users, "alice"):
        call = f"select {function}(%s)"
        assert value(users, call.encode(), ids["bob"]) is None
        assert value(users, call.encode(), ids["alice"]) is not None
    assert value(users, "select status from exports where id = %s", ids["bob"]) == (
        "pending"
    )


def test_a_function_of_their_own_is_shown_no_row_of_another(users: Conn) -> None:
    """PostgreSQL asks the policy first, however cheap the function says it is."""
    submit(users, "bob", "select 'secret'")
    users.execute(
        "create schema alices; grant all on schema alices to alice;"
        "create function alices.look(text) returns boolean language plpgsql cost 0.0001"
        " as $$ begin raise 'seen: %', $1; end $$;"
    )
    with session_of(users, "alice"):
        assert (
            users.execute("select from exports where alices.look(query)").fetchall()
            == []
        )
        assert (
            users.execute(
                "select from live_exports where alices.look(query)"
            ).fetchall()
            == []
        )


def test_an_admin_sees_and_touches_all(users: Conn) -> None:
    ids = {submit(users, user) for user in ("alice", "bob")}
    with session_of(users, "boss"):
        seen = users.execute("select id from live_exports").fetchall()
        assert {id for (id,) in seen} == ids
        users.execute("update exports set status = 'cancelled'")
        users.execute("insert into requesters (name, max_pending) values ('bob', 0)")
        for id in ids:
            assert value(users, "select delete_export(%s)", id) == ""
        with pytest.raises(errors.InsufficientPrivilege):
            users.execute("select * from requester_keys")
        with pytest.raises(errors.InsufficientPrivilege):
            users.execute("select * from reader_login")
        with pytest.raises(errors.InsufficientPrivilege):
            users.execute("update exports set requested_by = 'alice'")
    with pytest.raises(errors.ConfigurationLimitExceeded):
        submit(users, "bob")


def test_the_queue_is_everybodys_all_the_same(users: Conn) -> None:
    """Places and limits count what the user does not see."""
    first = submit(users, "bob")
    users.execute("update exports set priority = 9 where id = %s", [first])
    mine = submit(users, "alice")
    with session_of(users, "alice"):
        place = "select place from live_exports where id = %s"
        assert value(users, place, mine) == 2
        users.execute("set exports.max_pending = 2")
        with pytest.raises(errors.ConfigurationLimitExceeded, match="2 exports are"):
            users.execute("insert into exports (query) values ('select 1')")
        users.execute("reset exports.max_pending")


def test_an_idempotency_key_is_the_users_own(users: Conn) -> None:
    insert = "insert into exports (query, idempotency_key) values ('select 1', 'march')"
    for user in ("alice", "bob"):
        with session_of(users, user):
            users.execute(insert)
            with pytest.raises(errors.UniqueViolation):
                users.execute(insert)


def test_a_user_reads_no_more_of_a_long_history(users: Conn) -> None:
    fill(users, 20_000)
    mine = submit(users, "alice")
    users.execute("analyze exports")
    for question in (
        "select id from list_exports(51)",
        "select id from live_exports order by created_at desc, id desc limit 51",
        "update exports set status = 'cancelled' where status = 'pending' returning id",
    ):
        with users.transaction(force_rollback=True), session_of(users, "alice"):
            plan = value(users, f"explain (format json) {question}".encode())
            assert users.execute(question.encode()).fetchall() == [(mine,)]
        if "list_exports" not in question:
            assert "Seq Scan" not in str(plan)


def test_admins_can_be_made_later(users: Conn) -> None:
    users.execute('drop policy "seen and touched by admins" on exports')
    id = submit(users, "alice")
    with session_of(users, "boss"):
        assert users.execute("select id from exports").fetchall() == []
    for _ in range(2):
        users.execute("set role csv_service; select let_admins(); reset role")
    with session_of(users, "boss"):
        assert users.execute("select id from exports").fetchall() == [(id,)]
