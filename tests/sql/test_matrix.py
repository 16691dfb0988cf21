"""What each role can do with each function, table, view and sequence of the service.

`FUNCTIONS` and `RELATIONS` say it; something new fails until it has its row there.
"""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

from .test_own_rows import session_of
from .test_transitions import value

Conn = psycopg.Connection[Any]

ROLES = ("stranger", "alice", "csv_reader", "boss", "csv_service", "postgres")
# To alice, what docs/sql.md grants to who submits.
GRANTS = (
    "select, insert, delete, update (status, priority, run_at, max_attempts, expires_at)"
    " on exports",
    "select on live_exports, sources",
    "execute on function explain_as_reader, preview_as_reader",
)

# For each of ROLES, what a call about an export, a requester or a key of Bob does:
#   .  it is refused: permission denied
#   o  it is done, and neither changes, locks nor tells anything of Bob's
#   B  it changes, locks or tells something of Bob's
FUNCTIONS = {
    "add_reader": ". . . . o o",
    "admit": ". . . . B B",
    "admit_due": ". . . . B B",
    "admit_exports": ". . . . B B",
    "admit_requester": ". . . . B B",
    "after_failure": "o o o o o o",
    "announce_exports": "o o o o o o",
    "announce_keys": "o o o o o o",
    "base_type": "o o o o o o",
    "call_as": ". o o o o o",
    "cancel_export": ". o . B B B",
    "check_limits": "o o o B B B",
    "check_priority": ". . . B B B",
    "claim_export": ". . . . B B",
    "claim_exports": ". . . . B B",
    "compile_filter": "o o o o o o",
    "compile_filters": "o o o o o o",
    "compile_select": "o o o o o o",
    "compile_slices": "o o o o o o",
    "complete_export": ". . . . B B",
    "complete_exports": ". . . . B B",
    "create_key": ". . . . B B",
    "create_link": ". . . . B B",
    "create_session": ". . . . B B",
    "delete_export": ". o . B B B",
    "ends_outside": "o o o o o o",
    "explain_as": ". o o o o o",
    "explain_as_reader": ". o o o o o",
    "fail_export": ". . . . B B",
    "find_column": "o o o o o o",
    "find_debris": ". . . . o o",
    "find_encoding": "o o o o o o",
    "find_key": ". . . . B B",
    "find_link": ". . . . B B",
    "find_relation": "o o o o o o",
    "find_relation_as": "o o o o o o",
    "find_relation_as_reader": "o o o o o o",
    "function_of": "o o o o o o",
    "give_functions": ". . . . o o",
    "guard_activities": "o o o o o o",
    "guard_export": "o o o o o o",
    "heartbeat_export": ". . . . B B",
    "is_blank": "o o o o o o",
    "let_admins": ". . . . o o",
    "list_activities": ". . . . B B",
    "list_exports": ". o . B B B",
    "log_activity": ". . . . B B",
    "log_exports": ". . . . B B",
    "log_keys": ". . . . B B",
    "log_links": "o o o o o o",
    "next_export_in": ". o . o o o",
    "percent_done": "o o o o o o",
    "place_in_queue": "o o o o o o",
    "places_left": ". . . B B B",
    "prepare_export": ". o o o o o",
    "preview_as": ". o o o o o",
    "preview_as_reader": ". o o o o o",
    "preview_export": ". o . o o o",
    "prune_activities": ". . . . B B",
    "prune_exports": ". o . B B B",
    "queue_depth": ". o . o o o",
    "queue_up": ". . . B B B",
    "readable": "o o o o o o",
    "reader_of": "o o o B B B",
    "refuse_beyond_settings": ". . . . . .",
    "refuse_login": "o o o o o o",
    "refuse_other_meanings": "o o o o o o",
    "refuse_reader": "o o o o o o",
    "refuse_strangers": ". . . o o o",
    "relations_in": "o o o o o o",
    "relations_under": "o o o o o o",
    "release_export": ". . . . B B",
    "remember_files": ". . . . B B",
    "remove_reader": ". . . . o o",
    "renew_readers": ". . . . o o",
    "requester_usage": ". . . B B B",
    "rescue_exports": ". . . . B B",
    "retry_export": ". . . . B B",
    "revoke_key": ". . . . B B",
    "revoke_link": ". . . . B B",
    "rotate_key": ". . . . B B",
    "session_search_path": "o o o o o o",
    "set_requester": ". . . . B B",
    "sources_of": "o o o o o o",
    "speaks_for": "o o o o o o",
    "submit_export": "o o o o o o",
    "trim_query": "o o o o o o",
    "turn_reached": ". . . . o o",
    "watch_exports": ". o . B B B",
    "who_asks": "o o o o o o",
}

# What alice and boss may do with each table, view and sequence: s(elect), i(nsert),
# u(pdate), d(elete), (truncate) x, (references) f, t(rigger), (usage) g, on a column at
# least.  The owner and superusers may do all of it, and everybody else nothing.
RELATIONS = {
    "activities": ("", ""),
    "activities_id_seq": ("", ""),
    "activity": ("", "s"),
    "deleted_files": ("", ""),
    "export_links": ("", ""),
    "exports": ("siud", "siud"),
    "exports_migrations": ("", ""),
    **{f"exports_turn_{priority}": ("", "") for priority in range(10)},
    "live_exports": ("s", "s"),
    "live_keys": ("", ""),
    "live_links": ("", ""),
    "reader_login": ("", ""),
    "readers": ("", ""),
    "requester_days": ("", "s"),
    "requester_keys": ("", ""),
    "requesters": ("", "siud"),
    "sources": ("s", "s"),
}
LETTERS = {
    "select": "s", "insert": "i", "update": "u", "delete": "d", "truncate": "x",
    "references": "f", "trigger": "t", "usage": "g",
}  # fmt: skip
BY_COLUMN = ("select", "insert", "update", "references")

# Bob has an export in each of these states, a requester, a key, and bytes of today.
BOB = """
set session_replication_role to replica;
insert into requesters (name, weight, max_running, max_pending, max_priority, settings)
values ('bob', 7, 70007, 4321, 3, '{"app.tenant": "bobs own"}');
insert into activities (action, requester, detail) values ('submitted', 'bob', '"bobs own"');
insert into requester_keys (id, requester, digest, scopes)
values ('key of bob', 'bob', sha256('key of bob'), '{read}');
insert into requester_days values ('bob', (now() at time zone 'UTC')::date, 987654321);
insert into exports (
    id, requested_by, format, priority, query, sql_text, search_path, encoding, line_ending,
    run_at, status, waits_for, turn, attempt, failures, worker, lease_expires_at,
    started_at, finished_at, error, sha256, settings
)
select id::uuid, 'bob', 'jsonl', 2, $$select 'bobs own'$$,
    $$select 'bobs own'$$, 'public', 'UTF8', 'lf',
    now() - interval '1 s', status::export_status, waits_for,
    case when waits_for is not null then 5 end, attempt,
    case status when 'failed' then 1 else 0 end,
    case status when 'processing' then 'w' end,
    case status when 'processing' then now() - interval '1 s' end,
    case when attempt > 0 then now() - interval '9 s' end,
    case when status in ('failed', 'completed') then now() - interval '1 s' end,
    case status when 'failed' then '{"message": "bobs own"}'::jsonb end,
    case status when 'completed' then repeat('a', 64) end, '{"app.tenant": "bobs own"}'
from (values
    ('00000000-0000-4000-8000-000000000001', 'pending', 'worker', 0),
    ('00000000-0000-4000-8000-000000000002', 'pending', 'limit', 0),
    ('00000000-0000-4000-8000-000000000003', 'pending', 'time', 0),
    ('00000000-0000-4000-8000-000000000004', 'processing', null, 1),
    ('00000000-0000-4000-8000-000000000005', 'failed', null, 1),
    ('00000000-0000-4000-8000-000000000006', 'completed', null, 1)
) as _ (id, status, waits_for, attempt);
insert into export_links (id, export, digest, made_by, expires_at)
values ('link of bob', '00000000-0000-4000-8000-000000000006', sha256('link of bob'),
    'bob', now() + interval '1 day');
reset session_replication_role;
"""
PENDING, LIMITED, DUE, PROCESSING, FAILED, COMPLETED = (
    f"'00000000-0000-4000-8000-00000000000{n}'" for n in range(1, 7)
)
# What says that something of Bob's was told: texts, his limits, and what follows of them.
TOLD = ("bobs own", "70007", "70005", "4321", "987654321", "142857", "highest for bob")

# SQL for the parameters that have no default, by name, or by function and name.
WANTED = """jsonb_populate_record(null::exports, '{
    "query": "select 1", "status": "pending", "attempt": 0, "failures": 0, "rows": 0,
    "bytes": 0, "history": [], "encoding": "UTF8", "time_zone": "UTC", "format": "csv",
    "search_path": "public", "priority": 2, "requested_by": "bob", "reader": "csv_reader"}')"""
RECEIPT = f"""jsonb_build_array(jsonb_build_object(
    'id', {PROCESSING}, 'attempt', 1, 'rows', 1, 'bytes', 1, 'sha256', repeat('a', 64)))"""
PARAMETERS = {
    "p_action": "'downloaded'",
    "p_actor": "'bob'",
    "p_address": "'127.0.0.1'",
    "p_attempt": "1",
    "p_bytes": "1",
    "p_digest": "sha256('key of bob')",
    "p_error": """'{"message": "no"}'""",
    "p_estimated_rows": "1",
    "p_export": WANTED,
    "p_failures": "1",
    "p_filter": """'{"column": "id", "op": "eq", "value": 1}'""",
    "p_filters": """'[{"column": "id", "op": "eq", "value": 1}]'""",
    "p_id": PROCESSING,
    "p_ids": f"array[{PROCESSING}]::uuid[]",
    "p_is_of_session": "true",
    "p_key_id": "'key of bob'",
    "p_lease": "'1 min'",
    "p_limit": "10",
    "p_max_attempts": "5",
    "p_name": "'utf8'",
    "p_names": f"array[{PROCESSING} || '-1.csv']",
    "p_older_than": "'0 s'",
    "p_priority": "9",
    "p_query": "'select 1'",
    "p_reader": "'csv_reader'",
    "p_receipts": RECEIPT,
    "p_relation": "'users'",
    "p_requester": "'bob'",
    "p_role": "'csv_reader'",
    "p_rows": "1",
    "p_run_at": "now()",
    "p_running": "true",
    "p_search_path": "'public'",
    "p_settings": "null",
    "p_sha256": "repeat('a', 64)",
    "p_since": "'-infinity'",
    "p_source": "'users'",
    "p_sql": "'select 1'",
    "p_status": "'pending'",
    "p_text": "'x'",
    "p_transient": "true",
    "p_type": "'text'::regtype",
    "p_waiting": "true",
    "p_wanted": WANTED,
    "p_what": "'explain'",
    "p_worker": "'w'",
    "add_reader p_name": "'csv_reader'",
    "create_link p_export": COMPLETED,
    "create_session p_id": "'key of bob'",
    "find_column p_name": "'id'",
    "find_link p_digest": "sha256('link of bob')",
    "place_in_queue p_id": PENDING,
    "remove_reader p_name": "'nobody'",
    "retry_export p_id": FAILED,
    "revoke_key p_id": "'key of bob'",
    "revoke_link p_export": COMPLETED,
    "revoke_link p_id": "'link of bob'",
    "rotate_key p_id": "'key of bob'",
    "set_requester p_name": "'bob'",
    "turn_reached p_priority": "2",
}

# A table of somebody's own, to which they attach our trigger functions.
MINE = """
create temp table mine (
    id uuid, status export_status, waits_for text, requested_by text, file_path text, name text
)
"""
INSERT = (
    f"insert into mine values ({LIMITED}, 'pending', 'limit', 'bob', 'f.csv', 'bob')"
)
FIRING = (
    "after insert on mine referencing new table as new_rows for each statement",
    "after delete on mine referencing old table as old_rows for each statement",
    "before insert on mine for each row",
)

STATE = """
select jsonb_agg(one::text order by one::text)
from (
    select to_jsonb(e) from exports as e where requested_by = 'bob'
    union all select to_jsonb(r) from requesters as r where name = 'bob'
    union all select to_jsonb(k) from requester_keys as k where requester = 'bob'
    union all select to_jsonb(d) from requester_days as d
    union all select to_jsonb(a) from activities as a
    union all select to_jsonb(l) from export_links as l
    union all select to_jsonb(f) from deleted_files as f
) as _ (one)
"""
LOCKED = """
select (select count(*) from exports) + (select count(*) from requesters)
    + (select count(*) from requester_keys)
    - (select count(*) from (select from exports for update skip locked) as _)
    - (select count(*) from (select from requesters for update skip locked) as _)
    - (select count(*) from (select from requester_keys for update skip locked) as _)
"""


@pytest.fixture
def world(conn: Conn) -> Iterator[Conn]:
    """Bob, who has something of everything, and the roles."""
    with conn.transaction():
        conn.execute(
            "create role stranger; create role alice; create role boss in role csv_admin"
        )
        for grant in GRANTS:
            conn.execute(f"grant {grant} to alice".encode())
        conn.execute(BOB.encode())
    yield conn
    conn.execute("reset session authorization")
    conn.execute("drop owned by stranger, alice, boss; drop role stranger, alice, boss")


def functions(conn: Conn) -> list[Any]:
    """Return the name of each, its parameters without default, and if it is a trigger's."""
    return conn.execute(
        "select proname::text,"
        " coalesce((proargnames::text[])[:pronargs - pronargdefaults], '{}'),"
        " prorettype = 'trigger'::regtype"
        " from pg_proc where pronamespace = 'public'::regnamespace order by 1"
    ).fetchall()


def call(conn: Conn, name: str, parameters: list[str]) -> str:
    """Call the function about something of Bob's; return all that it says."""
    given = ", ".join(
        f"{one} => {PARAMETERS.get(f'{name} {one}') or PARAMETERS[one]}"
        for one in parameters
    )
    statement = f"select told::text from {name}({given}) as told"
    try:
        with conn.transaction():
            return str(conn.execute(statement.encode()).fetchall())
    except errors.CheckViolation as error:
        return str(error)


def attach(conn: Conn, name: str) -> str:
    """Let a table of one's own call the trigger function, about something of Bob's."""
    conn.execute(MINE)
    for firing in FIRING:
        trigger = f"create trigger t {firing} execute function {name}()"
        try:
            with conn.transaction():
                conn.execute(trigger.encode())
                conn.execute(INSERT.encode())
                conn.execute("delete from mine")
                conn.execute("drop trigger t on mine")
        except errors.InsufficientPrivilege:
            raise
        except psycopg.DatabaseError:
            pass  # it is not for such a table
    return ""


def outcome(
    conn: Conn,
    other: Conn,
    role: str,
    name: str,
    parameters: list[str],
    is_trigger: bool,
) -> str:
    before = value(conn, STATE)
    with conn.transaction(force_rollback=True):
        conn.execute(f"set session authorization {role}".encode())
        try:
            with conn.transaction():
                said = (
                    attach(conn, name) if is_trigger else call(conn, name, parameters)
                )
        except errors.InsufficientPrivilege as error:
            assert not any(one in str(error) for one in TOLD)
            return "."
        conn.execute("reset session authorization")
        touched = value(conn, STATE) != before or value(other, LOCKED) > 0
        return "B" if touched or any(one in said for one in TOLD) else "o"


def test_every_function_does_for_each_role_what_the_table_says(
    world: Conn, database: str
) -> None:
    found: dict[str, str] = {}
    with psycopg.connect(database, autocommit=True) as other:
        for name, *how in functions(world):
            found[name] = " ".join(
                outcome(world, other, role, name, *how) for role in ROLES
            )
    assert found == FUNCTIONS


def test_every_relation_gives_each_role_what_the_table_says(world: Conn) -> None:
    found: dict[str, dict[str, str]] = {}
    for relation, role, privilege, allowed in world.execute(
        "select relname::text, role, privilege, case"
        "   when relkind = 'S' and privilege not in ('select', 'update', 'usage') then null"
        "   when relkind = 'S' then has_sequence_privilege(role, c.oid, privilege)"
        "   when privilege = 'usage' then null"
        "   when privilege = any(%s::text[]) then has_any_column_privilege(role, c.oid, privilege)"
        "   else has_table_privilege(role, c.oid, privilege) end"
        " from pg_class as c cross join unnest(%s::text[]) as role"
        " cross join unnest(%s::text[]) as privilege"
        " where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'm', 'S', 'p')"
        " and relowner in ('csv_service'::regrole, 'csv_reader'::regrole)",
        [list(BY_COLUMN), list(ROLES), list(LETTERS)],
    ):
        if allowed is not None:
            letters = found.setdefault(relation, dict.fromkeys(ROLES, ""))
            letters[role] += LETTERS[privilege] if allowed else ""
    expected = {}
    for relation, (alice, boss) in RELATIONS.items():
        is_sequence = relation.startswith("exports_turn_") or relation.endswith("_seq")
        owner = "sug" if is_sequence else "siudxft"
        theirs = ("", alice, "", boss, owner, owner)
        expected[relation] = dict(zip(ROLES, theirs, strict=True))
    assert found == expected


def test_columns_that_are_changed_by_hand(world: Conn) -> None:
    """None of them says whose the export is, or what it does."""
    columns = (
        "select array_agg(attname::text order by attname) from pg_attribute"
        " where attrelid = %s::regclass and attnum > 0 and not attisdropped"
        " and has_column_privilege(%s, attrelid, attnum, 'update')"
    )
    by_hand = ["expires_at", "max_attempts", "priority", "run_at", "status"]
    for role in ("alice", "boss"):
        assert value(world, columns, "exports", role) == by_hand
    theirs = value(world, columns, "requesters", "boss")
    assert {"max_running", "weight"} <= set(theirs)
    assert not {"name", "reader", "settings"} & set(theirs)


def test_nobody_renames_a_requester_to_speak_for_another(world: Conn) -> None:
    with session_of(world, "boss"):
        world.execute("update requesters set max_pending = 1 where name = 'bob'")
        with pytest.raises(errors.InsufficientPrivilege):
            world.execute("update requesters set name = 'alice' where name = 'bob'")


def test_nobody_names_files_to_delete(world: Conn) -> None:
    """A folder may be shared: the file may be one of another database."""
    names = "select array_agg(name) from deleted_files"
    with session_of(world, "alice"):
        with pytest.raises(errors.InsufficientPrivilege):
            world.execute("insert into deleted_files (name) values ('f.csv')")
        world.execute("insert into exports (query) values ('select 1')")
    id = value(world, "select id from exports where requested_by = 'alice'")
    world.execute("set session authorization csv_service")
    # Theirs is the only one of its priority.
    world.execute(
        "update exports set status = 'cancelled'"
        " where requested_by = 'bob' and status = 'pending'"
    )
    world.execute("select claim_exports('w', '1 min')")
    world.execute("select complete_export(%s, 1, 1, 1, repeat('a', 64))", [id])
    with session_of(world, "alice"):
        assert value(world, "select delete_export(%s)", id) == f"{id}-1.csv"
    assert value(world, names) == [f"{id}-1.csv"]


def test_who_may_not_delete_cannot_lock_the_queue(world: Conn) -> None:
    """LOCK TABLE needs a right to change the whole table; docs/sql.md says so."""
    lock = "lock table exports in share row exclusive mode"
    for may_delete in (True, False):
        with world.transaction(force_rollback=True), session_of(world, "alice"):
            if may_delete:
                world.execute(lock)
            else:
                with pytest.raises(errors.InsufficientPrivilege), world.transaction():
                    world.execute(lock)
        world.execute("revoke delete on exports from alice")
