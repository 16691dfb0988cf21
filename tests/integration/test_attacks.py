"""Attacks: what Ann, a stranger and psql users try to do with what is Bob's.

Each is a function with a sentence.  It fails if the attack works.  After each, Bob's
exports, file and keys are as they were.
"""

import asyncio
import base64
import json
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
from psycopg import errors
from yarl import URL

from service.keys import SCOPES

from ..conftest import DAMMED, PATIENCE, Service, Start, dam, eventually
from ..processes import COMMAND
from ..sql.test_matrix import GRANTS
from ..sql.test_own_rows import session_of
from ..sql.test_transitions import value
from .test_connections import connected
from .test_keys import Made, events, make_key

pytestmark = pytest.mark.newest

Conn = psycopg.Connection[Any]

SECRET = "only-bob-knows"
MILLENNIUM = "2999-01-01T00:00:00Z"


@dataclass
class Answer:
    status: int
    headers: Any
    text: str

    def refused(self, *statuses: int) -> None:
        assert self.status in (statuses or (404,)), (self.status, self.text)
        assert SECRET not in self.text + str(self.headers)


@dataclass
class World:
    """A service that asks for keys, and Bob, who has an export that is done, and one to come."""

    service: Service
    conn: Conn
    start: Start
    keys: dict[str, Made]
    done: str = ""
    later: str = ""
    ids: set[str] = field(default_factory=set)

    async def ask(
        self, method: str, path: str, who: str | None = "ann", **options: Any
    ) -> Answer:
        """Ask with the key of *who*; the path is sent as it is written."""
        headers = dict(options.pop("headers", {}))
        if who:
            headers.setdefault("Authorization", f"Bearer {self.keys[who].key}")
        base = str(options.pop("base", self.service.url)).rstrip("/")
        options.setdefault("allow_redirects", False)
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            async with http.request(
                method, URL(base + path, encoded=True), headers=headers, **options
            ) as answer:
                text = (await answer.read()).decode(errors="replace")
                return Answer(answer.status, answer.headers, text)

    async def submit(self, who: str, **request: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.keys[who].key}"}
        async with aiohttp.ClientSession(self.service.url, headers=headers) as http:
            theirs = Service(self.service.url, http, self.service.settings, "")
            export = await theirs.export(**request)
            if "runAt" not in request:
                export = await theirs.ended(export["jobId"])
            return export

    async def raw(self, sent: bytes) -> bytes:
        """Send the bytes; return all that is answered until the connection ends."""
        async with connected(self.service) as (reader, writer):
            writer.write(sent)
            async with asyncio.timeout(PATIENCE):
                return await reader.read()

    @contextmanager
    def psql(self, user: str) -> Iterator[Conn]:
        with session_of(self.conn, user):
            yield self.conn

    def of_bob(self) -> Any:
        """Return all that is Bob's, without when his keys were used."""
        files = self.service.settings.exports_dir
        return (
            value(
                self.conn,
                "select jsonb_agg(to_jsonb(e) - 'turn' order by id) from exports as e"
                " where requested_by = 'bob'",
            ),
            value(
                self.conn,
                "select jsonb_agg(to_jsonb(k) - 'last_used_at' order by id)"
                " from requester_keys as k where requester = 'bob' and made_by is null",
            ),
            [path.read_bytes() for path in sorted(files.glob(f"{self.done}*"))],
        )


Attack = Callable[[World], Awaitable[None]]
ATTACKS: list[Attack] = []


def attack(function: Attack) -> Attack:
    ATTACKS.append(function)
    return function


@pytest.fixture
async def world(start: Start, conn: Conn) -> AsyncIterator[World]:
    service = await start(auth="keys")
    keys = {f"ann-{scope}": make_key(conn, "ann", scope) for scope in SCOPES[:3]}
    keys |= {"ann": make_key(conn, "ann"), "bob": make_key(conn, "bob")}
    keys |= {"boss": make_key(conn, "boss", "admin")}
    world = World(service, conn, start, keys)
    done = await world.submit("bob", query=f"select '{SECRET}' as secret")
    later = await world.submit(
        "bob", query=f"select '{SECRET}' as later", runAt=MILLENNIUM
    )
    world.done, world.later = done["jobId"], later["jobId"]
    world.ids = {world.done, world.later}
    with conn.transaction():
        conn.execute("create role alice; create role bob2")
        for user in ("alice", "bob2"):
            for grant in GRANTS:
                conn.execute(f"grant {grant} to {user}".encode())
    yield world
    conn.execute("drop owned by alice, bob2; drop role alice, bob2")


# In the name of another


@attack
async def a_body_names_the_requester(world: World) -> None:
    """A member of the body says whose the export is."""
    for name in ("requestedBy", "requested_by", "requester", "exports.requester"):
        body = {"query": "select 1", name: "bob"}
        (await world.ask("POST", "/exports", json=body)).refused(422)


@attack
async def a_header_names_the_requester(world: World) -> None:
    """Headers that a proxy would set count with AUTH=proxy alone."""
    for name in ("X-Forwarded-User", "X-Remote-User", "Remote-User", "From"):
        told = await world.ask("GET", "/me", headers={name: "bob"})
        assert '"requester":"ann"' in told.text, name
        (await world.ask("GET", "/me", who=None, headers={name: "bob"})).refused(401)


@attack
async def a_parameter_names_the_requester(world: World) -> None:
    """A parameter of the URL says who asks."""
    for query in ("requestedBy=bob", "requester=bob", "asRequester=bob"):
        answer = await world.ask(
            "POST", f"/exports?{query}", json={"query": "select 1"}
        )
        assert answer.status == 422 or '"requestedBy":"ann"' in answer.text


@attack
async def a_query_sets_the_requester(world: World) -> None:
    """A query sets what tells the database who asks."""
    query = "select set_config('exports.requester', 'bob', false)"
    export = await world.submit("ann", query=query)
    assert export["requestedBy"] == "ann"
    assert (await world.submit("ann", query="select 1"))["requestedBy"] == "ann"


@attack
async def a_psql_user_signs_for_another(world: World) -> None:
    """An INSERT, or a setting, says whose the export is."""
    with world.psql("alice") as conn:
        conn.execute("set exports.requester = 'bob'")
        conn.execute(
            "insert into exports (query, requested_by) values ('select 1', 'bob')"
        )
        conn.execute("reset exports.requester")
        by = value(conn, "select array_agg(distinct requested_by) from exports")
        assert by == ["alice"]
        conn.execute("delete from exports")


@attack
async def a_psql_user_becomes_another(world: World) -> None:
    """SET ROLE and SET SESSION AUTHORIZATION to roles of others."""
    url = world.service.database
    world.conn.execute("alter role alice login")
    with psycopg.connect(url, user="alice", autocommit=True) as conn:
        for role in ("bob2", "csv_service", "csv_reader", "csv_admin", "postgres"):
            for how in ("role", "session authorization"):
                with pytest.raises(errors.InsufficientPrivilege):
                    conn.execute(f"set {how} {role}".encode())


@attack
async def a_row_changes_its_owner(world: World) -> None:
    """An UPDATE gives a row of one's own to Bob, or takes his."""
    with world.psql("alice") as conn:
        conn.execute("insert into exports (query) values ('select 1')")
        for change in ("requested_by = 'bob'", "query = 'x'", "transition = 'claim'"):
            with pytest.raises(errors.InsufficientPrivilege):
                conn.execute(f"update exports set {change}".encode())
        conn.execute("delete from exports")


# The rows of others


@attack
async def an_export_is_read_by_its_id(world: World) -> None:
    """Every route with an id, with the id of Bob's."""
    for id in world.ids:
        for path in ("", "/events", "/download"):
            (await world.ask("GET", f"/exports/{id}{path}")).refused()
        for path in ("", "/download"):
            (await world.ask("HEAD", f"/exports/{id}{path}")).refused()


@attack
async def an_id_is_written_in_another_way(world: World) -> None:
    """Capitals, braces, no hyphens: forms that a parser of UUIDs may take."""
    id = world.done
    for form in (
        id.upper(), id.replace("-", ""), f"%7B{id}%7D", f"urn:uuid:{id}",
        f"{id}%20", f"{id}%00", f"{id};a=b",
    ):  # fmt: skip
        (await world.ask("GET", f"/exports/{form}")).refused(404, 400)


@attack
async def there_and_not_there_look_alike(world: World) -> None:
    """The answer tells whether an id exists."""
    nobodys = str(uuid.uuid4())
    for method, path in (
        ("GET", ""), ("POST", "/cancel"), ("POST", "/retry"), ("DELETE", ""),
        ("GET", "/download"), ("GET", "/events"),
    ):  # fmt: skip
        his = await world.ask(method, f"/exports/{world.done}{path}")
        none = await world.ask(method, f"/exports/{nobodys}{path}")
        assert his.status == none.status == 404
        assert his.text == none.text.replace(nobodys, world.done)


@attack
async def a_filter_lists_the_exports_of_another(world: World) -> None:
    """The filters of the list, also given twice."""
    for query in (
        "requestedBy=bob", "requestedBy=ann&requestedBy=bob", "requestedBy=",
        "requestedBy=%25", "status=completed", "limit=100", "source=users",
        "requested_by=bob", "createdFrom=2000-01-01T00:00:00Z",
    ):  # fmt: skip
        answer = await world.ask("GET", f"/exports?{query}")
        assert answer.status in (200, 422), answer.text
        assert not any(text in answer.text for text in (SECRET, *world.ids)), query


@attack
async def a_cursor_of_another_is_followed(world: World) -> None:
    """The cursor of Bob's list says where in all exports a page begins."""
    first = await world.ask("GET", "/exports?limit=1", who="bob")
    link = first.headers["Link"].split(">")[0].strip("<")
    answer = await world.ask("GET", link)
    assert answer.status == 200
    assert not any(text in answer.text for text in (SECRET, *world.ids))


@attack
async def a_stream_tells_what_happened_before(world: World) -> None:
    """Last-Event-ID asks for the past of everybody."""
    bearer = {"Authorization": f"Bearer {world.keys['ann'].key}"}
    async with aiohttp.ClientSession(world.service.url, headers=bearer) as http:
        for last in ("0", "1", "-1", "1-1", "9" * 30):
            async with http.get("/events", headers={"Last-Event-ID": last}) as answer:
                mine = (await world.submit("ann", query="select 1"))["jobId"]
                heard = await events(answer, mine)
            assert not any(text in heard for text in (SECRET, *world.ids)), last


@attack
async def the_end_of_a_stream_tells_of_an_export(world: World) -> None:
    """A stream that has ended is answered 204: not to others."""
    ended = value(
        world.conn,
        "select (extract(epoch from finished_at) * 1000000)::bigint"
        " from exports where id = %s",
        world.done,
    )
    headers = {"Last-Event-ID": f"1-{ended}"}
    path = f"/exports/{world.done}/events"
    assert (await world.ask("GET", path, who="bob", headers=headers)).status == 204
    (await world.ask("GET", path, headers=headers)).refused()


@attack
async def an_idempotency_key_of_another_is_used(world: World) -> None:
    """The same key and body find the export of Bob, or tell that he has used it."""
    headers = {"Idempotency-Key": "monthly"}
    body = {"query": "select 1 as monthly", "runAt": MILLENNIUM}
    before = world.of_bob()
    his = await world.ask("POST", "/exports", who="bob", json=body, headers=headers)
    mine = await world.ask("POST", "/exports", json=body, headers=headers)
    assert mine.status == his.status == 202 and '"requestedBy":"ann"' in mine.text
    other = body | {"query": "select 2"}
    again = await world.ask("POST", "/exports", json=other, headers=headers)
    assert again.status == 422
    world.conn.execute("delete from exports where idempotency_key = 'monthly'")
    assert world.of_bob() == before


@attack
async def a_query_reads_the_queue(world: World) -> None:
    """A SELECT names the tables, views and functions of the queue, also to preview."""
    for query in (
        "select * from exports", "select * from live_exports",
        "select * from list_exports(9)", "select * from requesters",
        "select * from requester_keys", "select * from live_keys",
        "select * from reader_login", "select * from requester_days",
        "select * from deleted_files", "select last_value from exports_turn_5",
        "table exports_migrations",
    ):  # fmt: skip
        for path in ("/exports?dryRun=true", "/exports"):
            (await world.ask("POST", path, json={"query": query})).refused(422)


@attack
async def a_query_calls_the_queue(world: World) -> None:
    """A SELECT calls the functions of the queue."""
    for call in (
        f"cancel_export('{world.later}')", f"delete_export('{world.done}')",
        f"retry_export('{world.done}')", "admit('bob')", "queue_up('bob', 5, now())",
        "check_priority('bob', 9)", "create_key('bob')", "requester_usage('bob')",
        f"revoke_key('{world.keys['bob'].id}')", "rescue_exports()",
        "claim_exports('w', '1 min')", "prune_exports('0 s')",
    ):  # fmt: skip
        answer = await world.ask("POST", "/exports", json={"query": f"select {call}"})
        if answer.status == 202:  # EXPLAIN does not execute it; the worker does
            export = await world.submit("ann", query=f"select {call}")
            assert export["status"] == "failed", call
            assert SECRET not in str(export)
        else:
            answer.refused(422)


@attack
async def psql_reads_what_is_of_others(world: World) -> None:
    """Tables, views, statistics and functions, as a psql user who may submit."""
    with world.psql("alice") as conn:
        for query in (
            "select e::text from exports as e", "select e::text from live_exports as e",
            "select e::text from list_exports(9) as e",
            "select e::text from watch_exports("
            "(select array_agg(gen_random_uuid())), true, true, '-infinity') as e",
            "select s::text from pg_stats as s where tablename = 'exports'",
            "select a::text from pg_stat_activity as a",
            "select pg_get_viewdef('live_exports')",
        ):  # fmt: skip
            assert SECRET not in str(conn.execute(query.encode()).fetchall()), query
        for table in ("requesters", "requester_keys", "live_keys", "reader_login"):
            with pytest.raises(errors.InsufficientPrivilege):
                conn.execute(f"select * from {table}".encode())


@attack
async def an_error_tells_of_a_row_of_another(world: World) -> None:
    """A taken id is all that an INSERT hears of Bob's row."""
    with world.psql("alice") as conn:
        insert = "insert into exports (id, query) values (%s, 'select 1')"
        with pytest.raises(errors.UniqueViolation) as error:
            conn.execute(insert, [world.done])
        assert SECRET not in str(error.value)
        with pytest.raises(errors.InsufficientPrivilege) as policy:
            conn.execute(
                f"{insert} on conflict (id) do update set status = 'cancelled'".encode(),
                [world.later],
            )
        assert SECRET not in str(policy.value)


# The files of others


@attack
async def a_file_is_downloaded_in_parts(world: World) -> None:
    """Ranges and conditions, which are answered before the body."""
    path = f"/exports/{world.done}/download"
    tag = (await world.ask("HEAD", path, who="bob")).headers["ETag"]
    for headers in (
        {"Range": "bytes=0-5"}, {"Range": "bytes=9999-"}, {"If-None-Match": tag},
        {"If-Match": tag}, {"If-Match": '"x"'}, {"If-Range": tag, "Range": "bytes=0-5"},
    ):  # fmt: skip
        for method in ("GET", "HEAD"):
            answer = await world.ask(method, path, headers=headers)
            answer.refused()
            assert "ETag" not in answer.headers


@attack
async def a_path_leads_to_a_file(world: World) -> None:
    """Guessed names, dots and encoded slashes."""
    mine = (await world.submit("ann", query="select 1"))["jobId"]
    name = f"{world.done}-1.csv"
    for path in (
        f"/{name}", f"/exports/{name}", f"/exports/{name}/download", f"/web/{name}",
        f"/web/../exports/{name}", f"/web/%2e%2e/%2e%2e/exports/{name}",
        f"/web/..%2f..%2fexports%2f{name}", "/web/..%2f..%2f..%2f..%2fetc%2fpasswd",
        f"/web/{world.service.settings.exports_dir}/{name}",
        f"/web/%2f{world.service.settings.exports_dir}/{name}",
        f"/exports/{mine}/../{world.done}/download",
        f"/exports/{mine}%2f..%2f{world.done}/download",
        f"/exports/{mine}/..%2f{world.done}%2fdownload",
        f"/exports/{world.done}%2fdownload", f"//exports/{world.done}/download",
        f"/exports/{mine}/download?file={name}", f"/exports/{mine}/%2e%2e/{name}",
    ):  # fmt: skip
        answer = await world.ask("GET", path)
        assert answer.status < 500, (path, answer.text)
        assert SECRET not in answer.text and "root:" not in answer.text, path


@attack
async def a_file_name_leads_out_of_the_folder(world: World) -> None:
    """The suggested name is a path, or ends the header."""
    for name in ("../x.csv", "a/b.csv", "a\\b.csv", "a\r\nSet-Cookie: x=1", "a\0b"):
        body = {"query": "select 1", "filename": name}
        (await world.ask("POST", "/exports", json=body)).refused(422)


# The ends of others' exports


@attack
async def an_export_is_ended_by_its_id(world: World) -> None:
    """Cancel, retry and delete, with each key of Ann's."""
    for who in ("ann", "ann-read", "ann-export", "ann-download"):
        for id in world.ids:
            for method, path in (
                ("POST", "/cancel"), ("POST", "/retry"), ("DELETE", ""),
            ):  # fmt: skip
                answer = await world.ask(method, f"/exports/{id}{path}", who=who)
                answer.refused(404 if who in ("ann", "ann-export") else 403)


@attack
async def a_method_hides_another(world: World) -> None:
    """Headers and parameters that other frameworks take for the method."""
    path = f"/exports/{world.later}"
    for who in ("ann", "bob"):
        for headers in (
            {"X-HTTP-Method-Override": "DELETE"}, {"X-Method-Override": "DELETE"},
        ):  # fmt: skip
            answer = await world.ask("POST", path, who=who, headers=headers)
            answer.refused(405)
        answer = await world.ask("GET", f"{path}/cancel?_method=POST", who=who)
        answer.refused(405)


@attack
async def psql_ends_an_export(world: World) -> None:
    """UPDATE, DELETE and the functions, as a psql user who may cancel and delete."""
    ids = list(world.ids)
    with world.psql("alice") as conn:
        for change in (
            "update exports set status = 'cancelled' where id = any(%s)",
            "update exports set run_at = now(), priority = 9 where id = any(%s)",
            "delete from exports where id = any(%s)",
        ):
            assert conn.execute(change.encode(), [ids]).rowcount == 0
        for function in ("cancel_export", "delete_export"):
            assert value(conn, f"select {function}(%s)".encode(), ids[0]) is None
        assert value(conn, "select prune_exports('0 s')") == 0
        for call in (
            f"retry_export('{ids[0]}')", f"release_export('{ids[0]}', 1)",
            f"heartbeat_export('{ids[0]}', 1, '1 s', 1, 1)", "rescue_exports()",
            f"fail_export('{ids[0]}', 1, '{{}}')", "claim_exports('w', '1 s')",
        ):  # fmt: skip
            with pytest.raises(errors.InsufficientPrivilege):
                conn.execute(f"select {call}".encode())


@attack
async def psql_changes_the_rules(world: World) -> None:
    """Triggers, rules, policies and rights of the queue's tables."""
    with world.psql("alice") as conn:
        for statement in (
            "alter table exports disable row level security",
            "alter table exports disable trigger guard",
            "create policy mine on exports using (true)",
            "drop policy \"seen and touched by who asked\" on exports",
            "create rule mine as on insert to exports do instead nothing",
            "create trigger mine before insert on exports for each row"
            " execute function submit_export()",
            "truncate exports", "set session_replication_role to replica",
            "grant csv_admin to alice", "alter function submit_export() owner to alice",
            "select setval('exports_turn_5', 1)", "select let_admins()",
        ):  # fmt: skip
            with pytest.raises(errors.InsufficientPrivilege):
                conn.execute(statement.encode())
        conn.execute("set row_security to off")
        with pytest.raises(errors.InsufficientPrivilege):
            conn.execute("select from exports")
        conn.execute("reset row_security")


@attack
async def psql_ends_a_session_of_the_service(world: World) -> None:
    """Of an export that runs, psql users can neither see the query nor end the session."""
    before = world.of_bob()
    pids = (
        "select array_agg(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    running = f"{pids} and state = 'active' and strpos(query, '{SECRET}') > 0"
    query = f"select '{SECRET}' as secret, id from ({DAMMED}) as _"
    with dam(world.service.database):
        submitted = await world.ask("POST", "/exports", "bob", json={"query": query})
        id = json.loads(submitted.text)["jobId"]

        async def runs() -> Any:
            return value(world.conn, running.encode())

        await eventually(runs)
        found = value(world.conn, pids)
        with world.psql("alice") as conn:
            seen = conn.execute("select a::text from pg_stat_activity as a").fetchall()
            assert SECRET not in str(seen)
            for pid in found:
                for function in ("pg_cancel_backend", "pg_terminate_backend"):
                    with pytest.raises(errors.InsufficientPrivilege):
                        conn.execute(f"select {function}({pid})".encode())

    async def completed() -> bool:
        answer = await world.ask("GET", f"/exports/{id}", "bob")
        export = json.loads(answer.text)
        assert export["attempt"] == 1 and export["status"] in (
            "processing",
            "completed",
        )
        return bool(export["status"] == "completed")

    await eventually(completed)
    assert (await world.ask("DELETE", f"/exports/{id}", "bob")).status == 204
    assert world.of_bob() == before


@attack
async def a_notification_is_made_by_hand(world: World) -> None:
    """Everybody may notify; the service looks, and finds Bob's rows as they are."""
    with world.psql("alice") as conn:
        bearer = {"Authorization": f"Bearer {world.keys['bob'].key}"}
        async with aiohttp.ClientSession(world.service.url, headers=bearer) as http:
            async with http.get(f"/exports/{world.later}/events") as answer:
                await events(answer, world.later)
                for id in world.ids:
                    conn.execute(f"notify exports_deleted, '{id} bob'".encode())
                    conn.execute(f"notify exports_deleted, '{id} alice'".encode())
                    conn.execute(f"notify exports, '{id}'".encode())
                for channel in ("exports", "exports_pending", "exports_keys"):
                    conn.execute(f"notify {channel}, 'x'".encode())
                # What the stream says next is of a change that happened.
                with session_of(conn, "postgres"):
                    conn.execute(
                        "update exports set priority = 6 where id = %s", [world.later]
                    )
                heard = await events(answer, '"priority":6')
    assert "deleted" not in heard
    world.conn.execute("update exports set priority = 5 where id = %s", [world.later])


# Keys


@attack
async def a_key_stands_in_the_url(world: World) -> None:
    """A key in the URL would be in logs and histories; none is accepted."""
    key = world.keys["bob"].key
    for name in ("key", "access_token", "token", "api_key", "csv_export_key"):
        (await world.ask("GET", f"/exports?{name}={key}", who=None)).refused(401)
    basic = base64.b64encode(f"bob:{key}".encode()).decode()
    for headers in ({"Authorization": f"Basic {basic}"}, {"X-API-Key": key}):
        (await world.ask("GET", "/exports", who=None, headers=headers)).refused(401)


@attack
async def a_key_is_changed_a_little(world: World) -> None:
    """What is not exactly the key is none."""
    key = world.keys["bob"].key
    for wrong in (
        key.upper(), key[:-1], f"{key}0", f"{key},{key}", f'"{key}"', key[4:],
        f"{key} {key}", world.keys["bob"].id, key.replace("csv_", "csv-"),
    ):  # fmt: skip
        headers = {"Authorization": f"Bearer {wrong}"}
        (await world.ask("GET", "/exports", who=None, headers=headers)).refused(401)


@attack
async def a_key_does_more_than_it_is_for(world: World) -> None:
    """Making, rotating and revoking keys need the scope admin."""
    id = world.keys["bob"].id
    for who in ("ann", "ann-read", "ann-export", "ann-download"):
        for method, path in (
            ("GET", "/keys"), ("POST", "/keys"), ("POST", f"/keys/{id}/rotate"),
            ("DELETE", f"/keys/{id}"),
        ):  # fmt: skip
            body = (
                {"requester": "ann", "scopes": ["admin"]} if method == "POST" else None
            )
            (await world.ask(method, path, who=who, json=body)).refused(403)


@attack
async def a_key_is_kept_where_others_look(world: World) -> None:
    """The command line reads the key from the environment: `ps` does not show it."""
    key = world.keys["bob"].key
    process = await asyncio.create_subprocess_exec(
        COMMAND, "watch",
        env={**os.environ, "CSV_EXPORT_URL": world.service.url, "CSV_EXPORT_KEY": key},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert process.stdout
        async with asyncio.timeout(PATIENCE):
            said = await process.stdout.read(1)  # it has begun to show exports
        assert said
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"watch" in command and key.encode() not in command
    finally:
        process.terminate()
        out, _ = await process.communicate()
    assert key.encode() not in out


# Sessions of browsers


async def signed_in(world: World, who: str) -> str:
    answer = await world.ask("POST", "/session", who=who)
    assert answer.status == 204
    return str(answer.headers["Set-Cookie"]).split(";")[0]


@attack
async def a_cookie_is_planted(world: World) -> None:
    """Who signs in gets a key of their own, whatever cookie was there before."""
    planted = await signed_in(world, "ann")
    answer = await world.ask("POST", "/session", who="bob", headers={"Cookie": planted})
    his = str(answer.headers["Set-Cookie"]).split(";")[0]
    assert his != planted
    for cookie, name in ((planted, "ann"), (his, "bob")):
        told = await world.ask("GET", "/me", who=None, headers={"Cookie": cookie})
        assert f'"requester":"{name}"' in told.text
    wrong = {"Cookie": "csv_export_key=planted"}
    (await world.ask("GET", "/me", who=None, headers=wrong)).refused(401)


@attack
async def a_cookie_outlives_its_key(world: World) -> None:
    """The cookie of a key that is revoked, and a cookie that was signed out."""
    made = make_key(world.conn, "ann")
    world.keys["short"] = made
    cookie = {"Cookie": await signed_in(world, "short")}
    assert (await world.ask("DELETE", "/session", None, headers=cookie)).status == 204
    (await world.ask("GET", "/exports", None, headers=cookie)).refused(401)
    cookie = {"Cookie": await signed_in(world, "short")}
    revoke = await world.ask("DELETE", f"/keys/{made.id}", who="boss")
    assert revoke.status == 204
    (await world.ask("GET", "/exports", None, headers=cookie)).refused(401)


@attack
async def a_cookie_goes_with_another_key(world: World) -> None:
    """With a bearer the cookie of somebody else counts for nothing."""
    cookie = {"Cookie": await signed_in(world, "bob")}
    told = await world.ask("GET", "/me", headers=cookie)
    assert '"requester":"ann"' in told.text
    (await world.ask("GET", f"/exports/{world.done}", headers=cookie)).refused()
    wrong = cookie | {"Authorization": "Bearer csv_x"}
    (await world.ask("GET", "/me", None, headers=wrong)).refused(401)
    # Signing out with a bearer ends neither.
    assert (await world.ask("DELETE", "/session", headers=cookie)).status == 204
    assert (await world.ask("GET", "/me", None, headers=cookie)).status == 200


@attack
async def a_session_makes_more_of_itself(world: World) -> None:
    """A cookie makes no other session and no key, and has no more scopes."""
    cookie = {"Cookie": await signed_in(world, "ann-read")}
    (await world.ask("POST", "/session", None, headers=cookie)).refused(409)
    body = {"requester": "ann", "scopes": ["admin"]}
    (await world.ask("POST", "/keys", None, headers=cookie, json=body)).refused(403)
    submit = {"query": "select 1"}
    answer = await world.ask("POST", "/exports", None, headers=cookie, json=submit)
    answer.refused(403)


# Pages of others


@attack
async def a_page_of_another_origin_sends_the_cookie(world: World) -> None:
    """The check of origins comes before the key; see also tests/browser/test_origins.py."""
    cookie = await signed_in(world, "bob")
    for origin in (
        {"Origin": "http://evil.example"}, {"Origin": "null"},
        {"Origin": world.service.url.replace("127.0.0.1", "127.0.0.2")},
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
        {"Origin": world.service.url.rstrip("/"), "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": ""},
    ):  # fmt: skip
        for method, path in (
            ("POST", "/exports"), ("POST", f"/exports/{world.later}/cancel"),
            ("DELETE", f"/exports/{world.done}"), ("DELETE", "/session"),
            ("POST", "/session"),
        ):  # fmt: skip
            headers = origin | {"Cookie": cookie}
            (await world.ask(method, path, None, headers=headers)).refused(403)


@attack
async def a_name_leads_to_the_service(world: World) -> None:
    """DNS rebinding: the browser asks in the name of another host, with the cookie."""
    cookie = await signed_in(world, "bob")
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "[",
        "",
    ):
        for path in ("/exports", f"/exports/{world.done}/download", "/events"):
            headers = {"Cookie": cookie, "Host": host}
            (await world.ask("GET", path, None, headers=headers)).refused(421, 400)


# What is sent on the wire


def sent(world: World, head: str, who: str | None = "ann", body: str = "") -> bytes:
    key = f"Authorization: Bearer {world.keys[who].key}\r\n" if who else ""
    return f"{head}\r\nConnection: close\r\n{key}\r\n{body}".encode()


@attack
async def a_request_hides_in_a_body(world: World) -> None:
    """Transfer-Encoding and Content-Length together, and forms of each that differ."""
    hidden = f"DELETE /exports/{world.done} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = "POST /exports HTTP/1.1\r\nHost: localhost\r\n"
    for lengths in (
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6", "Content-Length: +5",
        "Content-Length: 0x5", "Content-Length: 5, 5", "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity", "Transfer-Encoding : chunked",
        "Transfer-Encoding:\x0bchunked", "X: y\nTransfer-Encoding: chunked",
    ):  # fmt: skip
        answer = await world.raw(
            sent(world, head + lengths, "bob", f"0\r\n\r\n{hidden}")
        )
        assert answer.count(b"HTTP/1.") == 1, (lengths, answer)
        assert answer.split()[1] in (b"400", b"415", b"422", b"501"), (lengths, answer)


@attack
async def a_header_has_a_second_line(world: World) -> None:
    """Control characters and folded lines in headers are no HTTP."""
    for header in ("X: a\r\n b", "X: a\0b", "X: a\rb", "X\0: a", "X Y: a", ": a"):
        head = f"GET /exports/{world.done} HTTP/1.1\r\nHost: localhost\r\n{header}"
        answer = await world.raw(sent(world, head))
        assert answer.split()[1] in (b"400", b"404"), (header, answer)
        assert SECRET.encode() not in answer


@attack
async def a_request_has_two_hosts(world: World) -> None:
    """A proxy may have looked at the other one."""
    for hosts in (
        "Host: localhost\r\nHost: evil.example", "Host: evil.example\r\nHost: localhost",
    ):  # fmt: skip
        answer = await world.raw(sent(world, f"GET /me HTTP/1.1\r\n{hosts}"))
        assert answer.split()[1] in (b"400", b"421"), answer


@attack
async def a_stranger_sends_a_large_body(world: World) -> None:
    """It is answered before the body has come, and however slowly it would come."""
    head = (
        "POST /exports HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/json\r\nContent-Length: 3000000"
    )
    answer = await world.raw(sent(world, head, None, "{"))
    assert answer.split()[1] == b"401"


@attack
async def a_header_is_larger_than_any_key(world: World) -> None:
    """It is refused before it is looked at."""
    headers = {"Authorization": f"Bearer {'x' * 9000}"}
    (await world.ask("GET", "/exports", None, headers=headers)).refused(431)


@attack
async def metrics_tell_of_others(world: World) -> None:
    """They have no texts, names or ids; and strangers do not get them."""
    text = (await world.ask("GET", "/metrics")).text
    assert "export_" in text
    assert not any(one in text for one in (SECRET, "bob", *world.ids))
    (await world.ask("GET", "/metrics", who=None)).refused(401)


# Behind a proxy


@attack
async def somebody_speaks_for_the_proxy(world: World) -> None:
    """From another address, twice, empty, or as a login of the service."""
    elsewhere = await world.start(auth="proxy", auth_proxies="10.0.0.1", work=False)
    headers = {"X-Forwarded-User": "bob"}
    for more in ({}, {"X-Forwarded-For": "10.0.0.1"}, {"Forwarded": "for=10.0.0.1"}):
        answer = await world.ask(
            "GET", "/exports", None, headers=headers | more, base=elsewhere.url
        )
        answer.refused(403)
    here = await world.start(auth="proxy", auth_proxies="127.0.0.1", work=False)
    for name in ("", " ", "ann, bob", "bob\tx", "b\u00f6b", "-bob", "x" * 64):
        answer = await world.ask(
            "GET", "/exports", None, headers={"X-Forwarded-User": name}, base=here.url
        )
        answer.refused(401)
    for login in ("csv_service", "postgres"):
        answer = await world.ask(
            "GET", "/exports", None, headers={"X-Forwarded-User": login}, base=here.url
        )
        answer.refused(403)
    theirs = World(here, world.conn, world.start, world.keys)
    for twice in (
        "X-Forwarded-User: ann\r\nX-Forwarded-User: bob",
        "X-Forwarded-User: bob\r\nx-forwarded-user: ann", "X_Forwarded_User: bob",
    ):  # fmt: skip
        answer_ = await theirs.raw(
            sent(world, f"GET /exports HTTP/1.1\r\nHost: localhost\r\n{twice}", None)
        )
        assert answer_.split()[1] == b"401" and SECRET.encode() not in answer_


async def test_no_attack_works(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """All of them against one service; each finds Bob's as it was."""
    worked = {}
    before = world.of_bob()
    assert SECRET in str(before) and len(before[2]) == 1
    for one in ATTACKS:
        try:
            await one(world)
            is_as_before, before = world.of_bob() == before, world.of_bob()
            assert is_as_before, "something of Bob's has changed"
        except (Exception, pytest.fail.Exception) as error:
            worked[one.__name__] = f"{type(error).__name__}: {error}"[:2000]
    assert not worked, "\n\n".join(f"{name}: {why}" for name, why in worked.items())
    metrics = (await world.ask("GET", "/metrics")).text
    for made in world.keys.values():
        assert made.key not in caplog.text and made.key not in metrics
    assert SECRET not in caplog.text


def test_each_attack_has_a_sentence() -> None:
    assert len(ATTACKS) >= 30
    assert all(one.__doc__ for one in ATTACKS)
