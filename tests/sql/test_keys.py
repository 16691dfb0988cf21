"""The functions of keys, and who may call them."""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

Conn = psycopg.Connection[Any]

CALLS = (
    "select create_key('mallory')",
    "select rotate_key('x')",
    "select revoke_key('x')",
    "select find_key('x')",
    "select create_session('x')",
    "select * from live_keys",
    "select * from requester_keys",
    "select * from requesters",
    "insert into requesters values ('trudy')",
    "update requester_keys set scopes = '{admin}'",
    "delete from requesters",
)


@pytest.fixture
def roles(conn: Conn) -> Iterator[list[str]]:
    """A role without grants, one that may submit, and csv_reader."""
    conn.execute("create role stranger; create role submitter")
    conn.execute(
        "grant select, insert, update (status) on exports to submitter;"
        "grant select on live_exports, sources to submitter;"
        "grant execute on function explain_as_reader to submitter"
    )
    yield ["stranger", "submitter", "csv_reader"]
    conn.execute("reset session authorization")
    conn.execute("drop owned by stranger, submitter; drop role stranger, submitter")


def test_only_the_service_touches_keys(conn: Conn, roles: list[str]) -> None:
    id = conn.execute("select id from create_key('ann')").fetchone()
    for role in roles:
        conn.execute(f"set session authorization {role}")
        for call in CALLS:
            with pytest.raises(errors.InsufficientPrivilege):
                conn.execute(call)
        conn.execute("reset session authorization")
    assert conn.execute("select id from live_keys").fetchall() == [id]
    conn.execute("set session authorization csv_service")
    for call in CALLS:
        conn.execute(call)
    conn.execute("reset session authorization")


@pytest.mark.parametrize("role", ["csv_service", "submitter"])
def test_only_the_service_names_requesters(
    conn: Conn, roles: list[str], role: str
) -> None:
    with conn.transaction(force_rollback=True):
        conn.execute("set local exports.requester to 'ann'")
        conn.execute(f"set session authorization {role}")
        conn.execute("insert into exports (query) values ('select 1')")
        conn.execute("reset session authorization")
        row = conn.execute("select requested_by from exports").fetchone()
    assert row == ("ann" if role == "csv_service" else "submitter",)


def test_a_key_is_kept_as_its_digest(conn: Conn) -> None:
    made = conn.execute("select id, key from create_key('ann', '{read}')").fetchone()
    assert made
    id, key = made
    parts = re.fullmatch(r"(csv_([0-9a-f]{12})_[0-9a-f]{64})([0-9a-f]{8})", key)
    assert parts and parts[2] == id
    assert hashlib.sha256(parts[1].encode()).hexdigest().startswith(parts[3])
    stored = conn.execute(
        "select k::text, k.digest from requester_keys as k"
    ).fetchone()
    assert stored
    assert key not in stored[0]
    assert stored[1] == hashlib.sha256(key.encode()).digest()


def test_keys_differ(conn: Conn) -> None:
    made = conn.execute(
        "select count(distinct made.id), count(distinct made.key)"
        " from generate_series(1, 500) as n"
        " cross join lateral create_key('ann', '{read}', n * interval '1 d') as made"
    ).fetchone()
    assert made == (500, 500)


def test_rotation_and_revocation(conn: Conn) -> None:
    first = conn.execute(
        "select id from create_key('ann', '{read}', '90 d')"
    ).fetchone()
    assert first
    made = conn.execute("select id from rotate_key(%s, '1 h')", first).fetchone()
    assert made
    listed = conn.execute(
        "select id, requester, scopes, expires_at - now() < '2 h' from live_keys"
        " order by created_at"
    ).fetchall()
    assert listed == [
        (first[0], "ann", ["read"], True),
        (made[0], "ann", ["read"], False),
    ]
    # A key is replaced once.
    assert conn.execute("select * from rotate_key(%s)", first).fetchone() == (
        None,
        None,
    )
    for expected in (True, False):
        assert conn.execute("select revoke_key(%s)", made).fetchone() == (expected,)
    assert conn.execute("select id from live_keys").fetchall() == [first]
    assert conn.execute("select * from rotate_key(%s)", made).fetchone() == (None, None)
    assert conn.execute("select revoke_key('x')").fetchone() == (False,)


def test_a_session_ends_with_its_key(conn: Conn) -> None:
    key = conn.execute("select id from create_key('ann', '{read}', '1 h')").fetchone()
    assert key
    made = conn.execute(
        "select id, lasts <= '1 h' from create_session(%s)", key
    ).fetchone()
    assert made and made[1]
    none = (None, None, None)
    again = conn.execute("select * from create_session(%s)", made[:1]).fetchone()
    assert again == none
    assert conn.execute("select * from rotate_key(%s)", made[:1]).fetchone() == none[:2]
    ways = (
        "select revoke_key(%s)",
        "update requester_keys set expires_at = now() where id = %s",
        "delete from requester_keys where id = %s",
    )
    for way in ways:
        with conn.transaction(force_rollback=True):
            conn.execute(way, key)
            assert conn.execute("select from live_keys").rowcount == 0
    for long in ("null", "'30 d'"):
        lasts = conn.execute(
            f"select lasts from create_key('bob', '{{read}}', {long}) as k"
            " cross join lateral create_session(k.id)"
        ).fetchone()
        assert lasts and lasts[0].total_seconds() == 12 * 3600
    assert conn.execute("select * from create_session('x')").fetchone() == none


def test_a_login_of_the_service_is_no_requester(conn: Conn) -> None:
    for name in ("csv_service", "postgres"):
        with pytest.raises(errors.InvalidParameterValue, match="login of the service"):
            conn.execute("select create_key(%s)", [name])


def test_a_key_is_found_while_it_is_locked_and_on_a_standby(
    conn: Conn, database: str
) -> None:
    conn.execute("select create_key('ann')")
    find = "select id from find_key((select digest from requester_keys))"
    with psycopg.connect(database) as other:
        other.execute("select from requester_keys for update")
        assert conn.execute(find).rowcount == 1
    with conn.transaction():
        conn.execute("set transaction read only")
        assert conn.execute(find).rowcount == 1
    used = conn.execute("select last_used_at is not null from requester_keys")
    assert used.fetchone() == (False,)
    conn.execute(find)
    used = conn.execute("select last_used_at is not null from requester_keys")
    assert used.fetchone() == (True,)


def test_keys_that_ended_long_ago_are_forgotten(conn: Conn) -> None:
    conn.execute("select create_key('ann') from generate_series(1, 4)")
    ids = conn.execute("select id from live_keys order by id").fetchall()
    for id, column, days in ((ids[0], "revoked_at", 91), (ids[1], "expires_at", 91)):
        conn.execute(
            f"update requester_keys set {column} = now() - {days} * interval '1 d'"
            " where id = %s",
            id,
        )
    conn.execute("select revoke_key(%s)", ids[2])
    conn.execute("select create_key('bob')")
    kept = conn.execute(
        "select id from requester_keys where requester = 'ann' order by id"
    ).fetchall()
    assert kept == ids[2:]


def test_a_key_ends_with_its_requester(conn: Conn) -> None:
    conn.execute("select create_key('ann')")
    conn.execute("delete from requesters")
    assert conn.execute("select from requester_keys").rowcount == 0


@pytest.mark.parametrize(
    "requester, scopes, label",
    [
        ("", ["read"], None),
        ("a b", ["read"], None),
        ("a" * 64, ["read"], None),
        ("ann\n", ["read"], None),
        ("ann", [], None),
        ("ann", ["write"], None),
        ("ann", ["read", None], None),
        ("ann", ["read"], "x" * 101),
    ],
)
def test_what_no_key_can_be(
    conn: Conn, requester: str, scopes: list[str], label: str | None
) -> None:
    with pytest.raises(errors.CheckViolation):
        conn.execute("select create_key(%s, %s, null, %s)", [requester, scopes, label])
    assert conn.execute("select from requesters").rowcount == 0
