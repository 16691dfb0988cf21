"""Links to one file: how they are made, found and ended, and by whom."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import errors

from .test_activity import Conn, complete, submit, submitter

__all__ = ["submitter"]  # a fixture

CALLS = (
    "select create_link(gen_random_uuid())",
    "select find_link('x')",
    "select revoke_link(gen_random_uuid(), 'x')",
    "select from export_links",
    "select from live_links",
    "insert into export_links (id) values ('x')",
    "update export_links set expires_at = now() + interval '1 y'",
    "delete from export_links",
)


@pytest.fixture
def export(conn: Conn) -> str:
    """An export that is completed."""
    id = submit(conn)
    conn.execute("select claim_export('w', '1 min')")
    complete(conn, id)
    return id


def one(conn: Conn, statement: str, *parameters: object) -> Any:
    row = conn.execute(statement, parameters or None).fetchone()
    return row and row[0]


def found(conn: Conn, token: str) -> Any:
    return one(
        conn, "select id from find_link(%s)", hashlib.sha256(token.encode()).digest()
    )


def test_only_the_service_touches_links(
    conn: Conn, export: str, submitter: str
) -> None:
    one(conn, "select id from create_link(%s)", export)
    for role in (submitter, "csv_reader"):
        conn.execute(f"set session authorization {role}")
        for call in CALLS:
            with pytest.raises(errors.InsufficientPrivilege):
                conn.execute(call)
        conn.execute("reset session authorization")


def test_a_link_is_found_until_it_is_revoked(conn: Conn, export: str) -> None:
    row = conn.execute("select id, token from create_link(%s)", [export]).fetchone()
    assert row
    id, token = row
    assert found(conn, token) == id
    used = "select last_used_at is not null from export_links"
    assert one(conn, used)
    assert found(conn, token[::-1]) is None
    assert one(conn, "select revoke_link(gen_random_uuid(), %s)", id) is False
    for expected in (True, False):
        assert one(conn, "select revoke_link(%s, %s)", export, id) is expected
    assert found(conn, token) is None
    made = conn.execute("select token from create_link(%s)", [export]).fetchone()
    assert made and made[0] != token


def test_a_link_is_found_while_it_is_locked_and_on_a_standby(
    conn: Conn, database: str, export: str
) -> None:
    token = one(conn, "select token from create_link(%s)", export)
    with psycopg.connect(database) as other:
        other.execute("select from export_links for update")
        assert found(conn, token)
    with conn.transaction():
        conn.execute("set transaction read only")
        assert found(conn, token)
    assert one(conn, "select last_used_at is null from export_links")


def test_thirty_days_are_days_of_24_hours(conn: Conn, export: str) -> None:
    """Whether or not the clocks of the session are changed meanwhile."""
    today = datetime.now(UTC).timetuple().tm_yday
    soon, later = ((today + days) % 365 + 1 for days in (9, 180))
    for zone in ("UTC", f"WIN0SUM,J{soon},J{later}", f"WIN0SUM,J{later},J{soon}"):
        conn.execute("select set_config('TimeZone', %s, false)", [zone])
        conn.execute("select create_link(%s, '30 d')", [export])
    conn.execute("set timezone to 'UTC'")
    lasting = conn.execute("select expires_at - created_at from export_links")
    assert lasting.fetchall() == [(timedelta(days=30),)] * 3
    for wrong in ("30 d 1 s", "0", "-1 s"):
        with pytest.raises(errors.CheckViolation, match="thirty_days"):
            conn.execute("select create_link(%s, %s)", [export, wrong])


def test_a_link_ends_with_the_key_that_asks(conn: Conn, export: str) -> None:
    key = one(conn, "select id from create_key('ann', '{download}', '1 h')")
    session = one(conn, "select id from create_session(%s)", key)
    for asks in (key, session):
        with conn.transaction():
            conn.execute("select set_config('exports.requester', 'ann', true)")
            conn.execute("select set_config('exports.key', %s, true)", [asks])
            conn.execute("select create_link(%s)", [export])
    made = conn.execute(
        "select distinct made_by, made_with, expires_at <= now() + interval '1 h'"
        " from export_links"
    ).fetchall()
    assert made == [("ann", key, True)]
    conn.execute("select revoke_key(%s)", [session])
    assert conn.execute("select from live_links").rowcount == 2
    conn.execute("select revoke_key(%s)", [key])
    assert conn.execute("select from live_links").rowcount == 0
    with conn.transaction(), pytest.raises(errors.ForeignKeyViolation):
        with conn.transaction():
            conn.execute("select set_config('exports.key', 'x', true)")
            conn.execute("select create_link(%s)", [export])


def test_a_link_needs_a_file(conn: Conn, export: str) -> None:
    waiting = submit(conn)
    for id in (waiting, "00000000-0000-4000-8000-000000000000"):
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="has no file"):
            conn.execute("select create_link(%s)", [id])
    conn.execute("update exports set expires_at = now() where status = 'completed'")
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="has no file"):
        conn.execute("select create_link(%s)", [export])
