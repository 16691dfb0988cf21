"""Readers: whose rights an export runs with, and who may say so."""

from typing import Any

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

from service.postgres import schema

Conn = psycopg.Connection[Any]

ODD = 'Sales "Reader"; drop'
FUNCTIONS = (
    "select proname, proowner::regrole::text from pg_proc where proname like any("
    " '{explain\\_as\\_%%,preview\\_as\\_%%,find\\_relation\\_as\\_%%}')"
    " and proname not like '%%\\_as\\_reader' order by proname"
)
TENANT = {"app.tenant": "42"}


def add(conn: Conn, roles: list[str], name: str) -> None:
    roles.append(name)
    conn.execute("select add_reader(%s)", [name])


def give(conn: Conn, requester: str, **changes: object) -> None:
    conn.execute("select set_requester(%s, %s)", [requester, Jsonb(changes)])


def submit(conn: Conn, requester: str, **values: object) -> dict[str, Any]:
    """Insert an export as the service does for a requester; return the row."""
    statement = sql.SQL("insert into exports ({}) values ({}) returning *").format(
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(sql.Placeholder() * len(values)),
    )
    with conn.transaction():
        conn.execute("select set_config('exports.requester', %s, true)", [requester])
        cursor = conn.cursor(row_factory=psycopg.rows.dict_row)
        row = cursor.execute(statement, list(values.values())).fetchone()
    assert row
    return row


@pytest.mark.parametrize("name", ["sales_reader", ODD, "x" * 46])
def test_a_reader_is_a_role_with_functions_of_its_own(
    conn: Conn, roles: list[str], name: str
) -> None:
    for _ in range(2):  # the second time changes nothing
        add(conn, roles, name)
        row = conn.execute(
            "select rolcanlogin, pg_has_role('csv_service', oid, 'usage'),"
            " has_schema_privilege(oid, 'public', 'create')"
            " from pg_roles where rolname = %s",
            [name],
        ).fetchone()
        assert row == (True, True, False)
        owner = conn.execute("select quote_ident(%s)", [name]).fetchone()
        assert owner
        made = conn.execute(FUNCTIONS).fetchall()
        assert made == [
            (f"{what}_as_{name}", owner[0])
            for what in ("explain", "find_relation", "preview")
        ]
    give(conn, "ann", reader=name)
    with pytest.raises(errors.InsufficientPrivilege, match="table users"):
        submit(conn, "ann", source="users", columns=["id"])
    role = sql.Identifier(name)
    conn.execute(sql.SQL("grant select (id) on users to {}").format(role))
    assert submit(conn, "ann", source="users", columns=["id"])["reader"] == name
    assert submit(conn, "bob", source="users")["reader"] == "csv_reader"


def test_each_requester_is_checked_with_the_rights_of_their_reader(
    conn: Conn, roles: list[str]
) -> None:
    conn.execute("create table leads as select 1 as id; create table deals (id int)")
    for requester, table in (("ann", "leads"), ("bob", "deals")):
        add(conn, roles, f"{table}_reader")
        conn.execute(f"grant select on {table} to {table}_reader")
        give(conn, requester, reader=f"{table}_reader")
    for requester, mine, other in (
        ("ann", "leads", "deals"),
        ("bob", "deals", "leads"),
    ):
        assert submit(conn, requester, source=mine)["reader"] == f"{mine}_reader"
        assert submit(conn, requester, query=f"select * from {mine}")
        for refused in ({"source": other}, {"query": f"select * from {other}"}):
            with pytest.raises(errors.InsufficientPrivilege, match=other):
                submit(conn, requester, **refused)
        shown = conn.execute("select source from sources_of(%s)", [f"{mine}_reader"])
        assert shown.fetchall() == [(mine,)]
    for refused in ({"source": "leads"}, {"query": "select * from deals"}):
        with pytest.raises(errors.InsufficientPrivilege):
            submit(conn, "eve", **refused)


def test_a_psql_user_reads_as_their_reader(conn: Conn, roles: list[str]) -> None:
    conn.execute("create table leads as select 1 as id")
    add(conn, roles, "leads_reader")
    conn.execute("grant select on leads to leads_reader")
    roles.append("analyst")
    conn.execute(
        "create role analyst;"
        "grant select, insert on exports to analyst;"
        "grant select on live_exports, sources to analyst;"
        "grant execute on function explain_as_leads_reader, preview_as_leads_reader"
        " to analyst"
    )
    give(conn, "analyst", reader="leads_reader")
    conn.execute("set session authorization analyst")
    assert conn.execute("select source from sources").fetchall() == [("leads",)]
    conn.execute("insert into exports (source) values ('leads')")
    with pytest.raises(errors.InsufficientPrivilege, match="users"):
        conn.execute("insert into exports (source) values ('users')")
    shown = conn.execute("select first_rows from preview_export('leads')").fetchone()
    assert shown == ([{"id": 1}],)
    conn.execute("create temp table still_writable ()")
    # Nobody is told of others, and nobody chooses.
    assert conn.execute("select reader from reader_of('analyst')").fetchone() == (
        "leads_reader",
    )
    conn.execute("reset session authorization")
    give(conn, "ann", reader="leads_reader", settings=TENANT)
    conn.execute("set session authorization analyst")
    assert conn.execute("select * from reader_of('ann')").fetchone() == (
        "csv_reader",
        None,
    )
    for call in (
        "select * from readers",
        "update requesters set reader = 'csv_reader'",
        "select set_requester('analyst', '{\"reader\": null}')",
        "select add_reader('more')",
        "select remove_reader('leads_reader')",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            conn.execute(call)


@pytest.mark.parametrize(
    "given", [{"reader": "leads_reader"}, {"settings": Jsonb(TENANT)}, {"reader": None}]
)
def test_nobody_names_a_reader_or_settings_by_hand(
    conn: Conn, roles: list[str], given: dict[str, Any]
) -> None:
    add(conn, roles, "leads_reader")
    for requester in ("ann", "bob"):
        with pytest.raises((errors.CheckViolation, errors.NotNullViolation)):
            submit(conn, requester, source="users", **given)
    id = submit(conn, "ann", source="users")["id"]
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        (column,) = given
        conn.execute(
            sql.SQL("update exports set {} = %s where id = %s").format(
                sql.Identifier(column)
            ),
            [given[column] or "other", id],
        )


WRONG = {
    "a_superuser": "superuser",
    "who_bypasses": "bypassrls",
    "who_creates": "createrole",
    "who_replicates": "replication",
    "a_service": "login in role csv_service",
    "who_reads_files": "login in role pg_read_server_files",
    "who_writes_files": "login in role pg_write_server_files",
    "who_runs_programs": "login in role pg_execute_server_program",
    "a_member": "login in role a_superuser",
    "nobody": "nologin",
}


def test_what_cannot_be_a_reader(conn: Conn, roles: list[str]) -> None:
    for name, options in WRONG.items():
        roles.append(name)
        conn.execute(f"create role {name} {options}")
    for name in (*WRONG, "csv_service"):
        with pytest.raises(errors.InvalidRoleSpecification, match="cannot be a reader"):
            conn.execute("select add_reader(%s)", [name])
    for name in ("", "reader", "x" * 47, "\u00e9" * 24):
        with pytest.raises(errors.CheckViolation):
            conn.execute("select add_reader(%s)", [name])
    for name in ("pg_new", "public"):
        with pytest.raises(errors.ReservedName):
            conn.execute("select add_reader(%s)", [name])
    with pytest.raises(errors.NotNullViolation):
        conn.execute("select add_reader(null)")
    assert conn.execute("select name from readers").fetchall() == [("csv_reader",)]
    assert not conn.execute(FUNCTIONS).fetchall()
    conn.execute("select add_reader('csv_reader')")


def test_a_function_of_somebody_else_is_not_replaced(
    conn: Conn, roles: list[str]
) -> None:
    conn.execute(
        "create function explain_as_sales(text, text) returns jsonb"
        " language sql as 'select null::jsonb'"
    )
    with pytest.raises(errors.DuplicateFunction, match="explain_as_sales"):
        conn.execute("select add_reader('sales')")


def test_without_createrole_an_existing_role_is_adopted(
    conn: Conn, database: str, roles: list[str]
) -> None:
    roles += ["db_owner", "late_reader"]
    conn.execute("create role db_owner login in role csv_service")
    owned = sql.SQL("alter database {} owner to {}")
    name = sql.Identifier(conn.info.dbname)
    conn.execute(owned.format(name, sql.Identifier("db_owner")))
    try:
        with psycopg.connect(database, user="db_owner", autocommit=True) as owner:
            with pytest.raises(errors.InsufficientPrivilege) as refused:
                owner.execute("select add_reader('late_reader')")
            hint = refused.value.diag.message_hint
            assert hint
            conn.execute(
                hint.removeprefix("Have an administrator run this once: ").encode()
            )
            owner.execute("select add_reader('late_reader')")
            assert len(conn.execute(FUNCTIONS).fetchall()) == 3
            owner.execute(
                "select set_requester('ann', '{\"reader\": \"late_reader\"}')"
            )
        conn.execute("grant select on users to late_reader")
        assert submit(conn, "ann", source="users")["reader"] == "late_reader"
        # The service alone can renew, but not make, what readers own.
        service = make_conninfo(database, user="csv_service")
        conn.execute("update exports_migrations set digest = 'of before'")
        assert schema.migrate(service)
        roles.append("later_reader")
        conn.execute(
            "create role later_reader login; grant later_reader to csv_service"
        )
        with psycopg.connect(service, autocommit=True) as poor:
            with pytest.raises(errors.InsufficientPrivilege) as refused:
                poor.execute("select add_reader('later_reader')")
            hint = refused.value.diag.message_hint
            assert hint and "select add_reader('later_reader');" in hint
    finally:
        conn.execute(owned.format(name, sql.Identifier("postgres")))


def test_migrate_renews_the_functions_of_every_reader(
    conn: Conn, database: str, roles: list[str]
) -> None:
    add(conn, roles, ODD)
    add(conn, roles, "gone")
    conn.execute("drop owned by gone; drop role gone")
    bodies = (
        "select prosrc from pg_proc where proname in ('explain_as_reader', %s)"
        " order by proname"
    )
    name = sql.Identifier(f"explain_as_{ODD}")
    conn.execute(
        sql.SQL(
            "create or replace function {}(p_sql text, p_search_path text) returns jsonb"
            " language sql as 'select null::jsonb'"
        ).format(name)
    )
    conn.execute("update exports_migrations set digest = 'of before'")
    assert schema.migrate(database)
    first, second = conn.execute(bodies, [f"explain_as_{ODD}"]).fetchall()
    assert first == second


def test_a_reader_that_is_needed_stays(conn: Conn, roles: list[str]) -> None:
    add(conn, roles, "leads_reader")
    conn.execute("grant select on users to leads_reader")
    give(conn, "ann", reader="leads_reader")
    remove = "select remove_reader('leads_reader')"
    with pytest.raises(errors.DependentObjectsStillExist, match="the reader of ann"):
        conn.execute(remove)
    id = submit(conn, "ann", source="users")["id"]
    give(conn, "ann", reader=None)
    with pytest.raises(errors.DependentObjectsStillExist, match=str(id)):
        conn.execute(remove)
    conn.execute("select cancel_export(%s)", [id])
    assert conn.execute(remove).fetchone() == (True,)
    assert conn.execute(remove).fetchone() == (False,)
    assert not conn.execute(FUNCTIONS).fetchall()
    assert conn.execute("select to_regrole('leads_reader')").fetchone() != (None,)
    with pytest.raises(errors.DependentObjectsStillExist, match="csv_reader"):
        conn.execute("select remove_reader('csv_reader')")


@pytest.mark.parametrize("changes", [{"reader": "leads_reader"}, {"settings": TENANT}])
def test_what_a_requester_no_longer_has_is_not_retried(
    conn: Conn, roles: list[str], changes: dict[str, Any]
) -> None:
    add(conn, roles, "leads_reader")
    conn.execute("grant select on users to leads_reader")
    give(conn, "ann", **changes)
    id = submit(conn, "ann", source="users")["id"]
    conn.execute("select cancel_export(%s)", [id])
    retry = "select retry_export(%s)"
    for taken in (dict.fromkeys(changes), None):
        if taken:
            give(conn, "ann", **taken)
        else:
            conn.execute("delete from requesters")
        with pytest.raises(
            errors.ObjectNotInPrerequisiteState, match="ann has another"
        ):
            conn.execute(retry, [id])
    give(conn, "ann", **changes)
    assert conn.execute(retry, [id]).fetchone() == ("pending",)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"settings": {"tenant": "42"}}, "settings_have_names_with_a_dot"),
        ({"settings": {"role": "postgres"}}, "settings_have_names_with_a_dot"),
        ({"settings": {"a.b'; x": "42"}}, "settings_have_names_with_a_dot"),
        ({"settings": {"a.b\nc.d": "42"}}, "settings_have_names_with_a_dot"),
        ({"settings": {"a.": "42"}}, "settings_have_names_with_a_dot"),
        ({"settings": {"app.tenant": 42}}, "settings_are_texts_by_name"),
        ({"settings": {"app.tenant": None}}, "settings_are_texts_by_name"),
        ({"settings": {"app.tenant": ["42"]}}, "settings_are_texts_by_name"),
        ({"settings": [TENANT]}, "settings_are_texts_by_name"),
        ({"settings": "x"}, "settings_are_texts_by_name"),
        ({"settings": {"app.tenant": "x" * 10_000}}, "settings_are_texts_by_name"),
        ({"reader": "who"}, "there is no reader who"),
    ],
)
def test_what_no_requester_can_have(
    conn: Conn, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(errors.IntegrityError, match=words):
        give(conn, "ann", **changes)
    assert conn.execute("select from requesters").rowcount == 0


def test_changes_of_a_requester_leave_the_rest(conn: Conn, roles: list[str]) -> None:
    add(conn, roles, "leads_reader")
    shown = "select reader, settings from requesters where name = 'ann'"
    for changes, expected in (
        ({}, (None, {})),
        ({"settings": TENANT}, (None, TENANT)),
        ({"reader": "leads_reader"}, ("leads_reader", TENANT)),
        ({"settings": None}, ("leads_reader", {})),
        ({"reader": "csv_reader"}, ("csv_reader", {})),
    ):
        give(conn, "ann", **changes)
        assert conn.execute(shown).fetchone() == expected
    with pytest.raises(errors.InvalidParameterValue, match="login of the service"):
        give(conn, "csv_service", settings=TENANT)


def test_with_settings_there_are_no_queries_and_no_catalogs(conn: Conn) -> None:
    give(conn, "ann", settings=TENANT)
    assert submit(conn, "ann", source="users")["settings"] == TENANT
    with pytest.raises(errors.InsufficientPrivilege, match="ann may export relations"):
        submit(conn, "ann", query="select 1")
    for source in (
        "pg_stat_activity",
        "pg_catalog.pg_class",
        "information_schema.tables",
    ):
        with pytest.raises(errors.InsufficientPrivilege, match="catalog"):
            submit(conn, "ann", source=source)
    # Nothing of it stays in the session.
    row = conn.execute(
        "select nullif(current_setting('app.tenant', true), '')"
    ).fetchone()
    assert row == (None,)
