"""The queue: one method for each SQL function.

PostgreSQL makes every decision; no method here updates a row by itself.  After
`claim`, every call presents the claimed export, and with it its fencing token.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import errors, sql
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from ..model import (
    Action,
    Activity,
    Depth,
    Export,
    ExportError,
    Key,
    Link,
    Receipt,
    Sliceable,
    Source,
    Status,
    Who,
)
from ..postgres.connections import bounded
from ..postgres.pool import Pool
from .batches import Batches

PATIENCE = 10.0  # seconds for one call; the connection is severed after that
REMEMBERED = 10_000  # running exports whose last figures are kept; see `_forward`
# In the transaction of what is done for somebody; see `who_asks`.
SPEAK = (
    "select set_config('exports.requester', %s, true),"
    " set_config('exports.key', %s, true), set_config('exports.address', %s, true)"
)
NOBODY = Who()


class KeyReused(Exception):
    """The idempotency key belongs to another request."""


class LeaseLost(Exception):
    """The export is no longer ours: cancelled, rescued, or deleted."""


class Queue:
    """The operations on exports, each in its own transaction.

    Every method raises `psycopg.Error` if PostgreSQL refuses it or cannot be
    reached.  `submit` and `dry_run` may take `submit_timeout` longer than
    `PATIENCE`; no other method waits much longer than `PATIENCE`.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        max_pending: int | None = None,
        retention: timedelta | None = None,
        submit_timeout: float = 10.0,
    ) -> None:
        self._pool = pool
        self._submit_timeout = submit_timeout
        self._max_pending = max_pending
        self._retention = retention
        self._completions = Batches(self._complete)
        self._furthest: dict[UUID, Export] = {}  # each as it was returned last

    async def ping(self) -> None:
        """Raise `psycopg.Error` unless the database answers, and can be written to."""
        async with self._connection() as conn:
            cursor = await conn.execute(
                "select current_setting('transaction_read_only')::boolean as read_only"
            )
            row = await cursor.fetchone()
            if row and row["read_only"]:
                raise errors.ReadOnlySqlTransaction("the server is read-only")

    async def submit(
        self,
        wanted: dict[str, Any],
        key: str | None = None,
        who: Who = NOBODY,
    ) -> Export:
        """Create an export; *wanted* maps columns of `exports` to values.

        It belongs to the requester *who* asks, or else to the role that we log in as.

        PostgreSQL refuses it if their reader could not run it.  If planning takes
        longer than `submit_timeout`, it raises `psycopg.errors.QueryCanceled`; if
        too many exports wait, `psycopg.errors.ConfigurationLimitExceeded`.

        If the idempotency *key* was used before, return the export that was
        created with it, or raise `KeyReused` if that was a different request.
        Requesters do not share these keys.
        """
        requester = who.requester
        digest = hashlib.sha256(
            json.dumps(wanted, sort_keys=True, default=str).encode()
        ).hexdigest()
        values = dict(wanted)
        if key is not None:
            values |= {"idempotency_key": key, "request_digest": digest}
        for _ in range(2):
            try:
                return await self._insert(
                    values, max_pending=self._max_pending, who=who
                )
            except (errors.UniqueViolation, errors.ConfigurationLimitExceeded) as error:
                full = isinstance(error, errors.ConfigurationLimitExceeded)
                if full and key is None:
                    raise
                row = await self._one(
                    "select * from live_exports where idempotency_key = %s"
                    " and requested_by = coalesce(%s, session_user)",
                    key,
                    requester,
                )
                if full and not row:
                    raise
            if row:  # otherwise it was deleted in the meantime: try once more
                if row["request_digest"] != digest:
                    raise KeyReused
                return Export(**row)
        raise KeyReused

    async def dry_run(self, wanted: dict[str, Any], who: Who = NOBODY) -> Export:
        """Return the export that `submit` would have made; store nothing."""
        return await self._insert(wanted, max_pending=None, who=who, keep=False)

    async def _insert(
        self,
        values: dict[str, Any],
        *,
        max_pending: int | None,
        who: Who = NOBODY,
        keep: bool = True,
    ) -> Export:
        """Insert a row of *values*, each of them passed as a query parameter."""
        statement = sql.SQL("insert into exports ({}) values ({}) returning *").format(
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(sql.Placeholder() * len(values)),
        )
        parameters = [
            Jsonb(value) if name == "filters" else value
            for name, value in values.items()
        ]
        async with self._connection(self._submit_timeout + PATIENCE) as conn:
            # A single round trip; statement_timeout limits it on the server.
            async with (
                conn.pipeline(),
                conn.transaction(force_rollback=not keep),
            ):
                await conn.execute(SPEAK, _spoken(who))
                await conn.execute(
                    # With no limit of our own, the database's exports.max_pending
                    # applies.
                    "select set_config('statement_timeout', %s, true),"
                    " set_config('client_connection_check_interval', '2s', true),"
                    " set_config('exports.dry_run', %s, true),"
                    " set_config('exports.max_pending', coalesce(%s,"
                    " current_setting('exports.max_pending', true), ''), true)",
                    [
                        f"{self._submit_timeout * 1000:.0f}",
                        "off" if keep else "on",
                        (
                            None
                            if keep and max_pending is None
                            else str(max_pending or "")
                        ),
                    ],
                )
                cursor = await conn.execute(statement, parameters)
                row = await cursor.fetchone()
        assert row
        return Export(**row)

    async def sources(self, search_path: str, reader: str) -> list[Source]:
        """Return the relations that *reader* may read.

        Those that *search_path* finds are named without their schema.
        """
        async with self._connection() as conn:
            async with conn.pipeline(), conn.transaction():
                await conn.execute(
                    "select set_config('search_path', %s, true)", [search_path]
                )
                cursor = await conn.execute(
                    "select * from public.sources_of(%s) order by source", [reader]
                )
                rows = await cursor.fetchall()
        return [Source(**row) for row in rows]

    async def get(self, id: UUID) -> Export | None:
        """Return the current state of the export, with live rows and bytes."""
        row = await self._one("select * from live_exports where id = %s", id)
        return self._forward(Export(**row)) if row else None

    async def watch(
        self, ids: set[UUID], *, running: bool, waiting: bool, since: datetime | None
    ) -> tuple[list[Export], datetime]:
        """Return the exports *ids* and some others, and when they were read.

        The others are all running exports (if *running*), the first pending ones
        (if *waiting*), and those that have ended *since*; see `watch_exports`.
        """
        rows = await self._all(
            "select clock_timestamp() as read_at, export.* from (values (1)) as _"
            " left join watch_exports(%s, %s, %s, %s) as export on true",
            list(ids),
            running,
            waiting,
            since,
        )
        found = [self._forward(Export(**row)) for row in rows if row["id"]]
        return found, rows[0]["read_at"]

    async def page(self, limit: int, **restrictions: object) -> list[Export]:
        """Return up to *limit* exports, newest first; see `list_exports`."""
        rows = await self._listed("list_exports", limit, restrictions)
        return [self._forward(Export(**row)) for row in rows]

    async def _listed(
        self, function: LiteralString, limit: int, restrictions: dict[str, object]
    ) -> list[dict[str, Any]]:
        """Call *function* with a limit, and with those restrictions that are given."""
        given = {
            name: value for name, value in restrictions.items() if value is not None
        }
        arguments = sql.SQL("").join(
            sql.SQL(", p_{} => {}").format(sql.SQL(name), sql.Placeholder())
            for name in given
        )
        return await self._all(
            sql.SQL("select * from {}({}{})").format(
                sql.Identifier(function), sql.Placeholder(), arguments
            ),
            limit,
            *given.values(),
        )

    def _forward(self, export: Export) -> Export:
        """Keep the figures of an attempt from going backwards.

        Between the end of a COPY and the next heartbeat, live_exports shows the
        older figures of the last heartbeat.
        """
        before = self._furthest.pop(export.id, None)
        if export.status is not Status.PROCESSING:
            return export
        if before and before.attempt == export.attempt:
            figures = {
                "rows": max(export.rows, before.rows),
                "bytes": max(export.bytes, before.bytes),
                "progress": max(export.progress, before.progress),
            }
            export = export.model_copy(update=figures)
        if len(self._furthest) >= REMEMBERED:
            del self._furthest[next(iter(self._furthest))]
        self._furthest[export.id] = export
        return export

    async def claim(
        self,
        worker: str,
        lease: float,
        floors: list[int | None] | None = None,
        limit: int = 1,
    ) -> list[Export]:
        """Lease the next pending exports to *worker*; return 0 to *limit* of them.

        Two callers never receive the same export: it is locked and leased in
        one statement.  Present the returned export to every later call.  Its
        `attempt` is the fencing token: once the lease is lost, those calls
        change nothing and raise `LeaseLost`.

        *floors* holds, for each priority, the `turn` of the export claimed last;
        the search begins there.
        """
        rows = await self._all(
            "select * from claim_exports(%s, %s, %s::bigint[], %s)",
            worker,
            timedelta(seconds=lease),
            floors or [],
            limit,
        )
        return [Export(**row) for row in rows]

    async def slices(self, export: Export) -> Sliceable | None:
        """Return how to select a part of the table; None if it cannot be divided."""
        row = await self._one("select * from compile_slices(%s)", export.id)
        return Sliceable(**row) if row and row["source"] else None

    async def next_in(self) -> float | None:
        """Return the seconds until the next scheduled export is due, if there is one."""
        row = await self._one("select next_export_in() as due")
        return row["due"].total_seconds() if row and row["due"] else None

    async def heartbeat(
        self,
        export: Export,
        lease: float,
        rows: int,
        bytes: int,
        estimated_rows: int | None = None,
    ) -> None:
        """Extend the lease; report the rows and bytes so far and the expected rows."""
        await self._held(
            "select heartbeat_export(%s, %s, %s, %s, %s, %s) is not null as held",
            export.id,
            export.attempt,
            timedelta(seconds=lease),
            rows,
            bytes,
            estimated_rows,
            patience=min(PATIENCE, lease / 3),
        )

    async def complete(self, export: Export, receipt: Receipt) -> None:
        """Publish the file of this attempt, which must be complete and on disk.

        Exports that complete at the same time share a transaction and its flush.
        """
        if not await self._completions.call((export, receipt)):
            raise LeaseLost

    async def _complete(
        self, completed: Sequence[tuple[Export, Receipt]]
    ) -> list[bool]:
        """Complete the exports that are still held; return for each whether it was.

        An error leaves all of them as they were.
        """
        receipts = [
            {
                "id": str(export.id),
                "attempt": export.attempt,
                "rows": receipt.rows,
                "bytes": receipt.bytes,
                "sha256": receipt.sha256,
                "columns": [column.model_dump() for column in receipt.columns],
                "snapshot_at": receipt.snapshot_at and receipt.snapshot_at.isoformat(),
            }
            for export, receipt in completed
        ]
        rows = await self._all(
            "select id, held from complete_exports(%s, %s)",
            Jsonb(receipts),
            self._retention,
        )
        held = {row["id"]: row["held"] for row in rows}
        return [held[export.id] for export, _ in completed]

    async def fail(
        self,
        export: Export,
        error: ExportError,
        transient: bool,
        rows: int | None = None,
        bytes: int | None = None,
    ) -> Status:
        """End the attempt with *error*; return pending if the export will be retried.

        It is if *error* is *transient* and attempts are left.  *rows* and *bytes*
        are how far the attempt came.
        """
        status = await self._status(
            "select fail_export(%s, %s, %s, %s, %s, %s) as status",
            export.id,
            export.attempt,
            Jsonb(error.model_dump(exclude_none=True)),
            transient,
            rows,
            bytes,
        )
        if status is None:
            raise LeaseLost
        return status

    async def depth(self) -> Depth:
        """Return how many exports are waiting and running."""
        row = await self._one("select * from queue_depth()")
        assert row
        return Depth(**row)

    async def release(self, export: Export) -> None:
        """Hand the export back, so that another worker runs it."""
        await self._held(
            "select release_export(%s, %s) as held", export.id, export.attempt
        )

    async def cancel(self, id: UUID, who: Who = NOBODY) -> Status | None:
        """Cancel the export unless it has ended; return its status, if it exists."""
        return await self._status("select cancel_export(%s) as status", id, who=who)

    async def retry(self, id: UUID, who: Who = NOBODY) -> Status | None:
        """Queue a failed or cancelled export again; return its status, if it exists."""
        return await self._status("select retry_export(%s) as status", id, who=who)

    async def find_key(self, digest: bytes) -> Key | None:
        """Return the key with this SHA-256, if it is accepted now."""
        row = await self._one(
            "select id, requester, scopes, reader,"
            " extract(epoch from expires_at - now())::float8 as seconds_left"
            " from find_key(%s) cross join reader_of(requester)",
            digest,
        )
        return Key(**row | {"scopes": frozenset(row["scopes"])}) if row else None

    async def rates(self, requester: str) -> dict[str, int | None]:
        """Return how many requests and previews *requester* may make a minute."""
        row = await self._one(
            "select max_requests_a_minute as requests,"
            " max_previews_a_minute as previews from requesters where name = %s",
            requester,
        )
        return row or {}

    async def allowance(self, requester: str) -> dict[str, Any]:
        """Return the limits of *requester*, and what of them is used now."""
        row = await self._one(
            "select * from requester_usage(%s) left join requesters on name = %s",
            requester,
            requester,
        )
        assert row
        return row

    async def create_key(
        self,
        requester: str,
        scopes: list[str],
        expires_in: timedelta | None,
        label: str | None,
        who: Who = NOBODY,
    ) -> dict[str, str]:
        """Make a key; return its `id`, and the `key`, which cannot be shown again."""
        row = await self._one(
            "select * from create_key(%s, %s, %s, %s)",
            requester,
            scopes,
            expires_in,
            label,
            who=who,
        )
        assert row
        return row

    async def create_session(
        self, id: str, who: Who = NOBODY
    ) -> tuple[str, timedelta] | None:
        """Make a key for a browser that has shown key *id*; return it, and its time.

        None if *id* is not accepted, or was made for a browser itself.
        """
        row = await self._one("select * from create_session(%s)", id, who=who)
        return (row["key"], row["lasts"]) if row and row["key"] else None

    async def logins(self) -> frozenset[str]:
        """Return the roles that can act as the service."""
        rows = await self._all(
            "select rolname from pg_roles"
            " where pg_has_role(oid, 'csv_service', 'member')"
        )
        return frozenset(row["rolname"] for row in rows)

    async def reader_of(self, requester: str | None) -> str:
        """Return the role that reads for *requester*."""
        row = await self._one("select reader from reader_of(%s::text)", requester)
        assert row
        return str(row["reader"])

    async def requesters(self) -> list[dict[str, Any]]:
        """Return the rows of all requesters, by name."""
        return await self._all("select * from requesters order by name")

    async def set_requester(self, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Change a requester, who is made if new; return the row."""
        row = await self._one(
            "select * from set_requester(%s, %s)", name, Jsonb(changes)
        )
        assert row
        return row

    async def rotate_key(self, id: str, who: Who = NOBODY) -> dict[str, str] | None:
        """Make a key like *id*, as `create_key`; None if that is not accepted."""
        row = await self._one("select * from rotate_key(%s)", id, who=who)
        return row if row and row["id"] else None

    async def revoke_key(self, id: str, who: Who = NOBODY) -> bool:
        """Accept the key *id* no longer; return whether it was accepted."""
        row = await self._one("select revoke_key(%s) as revoked", id, who=who)
        return bool(row and row["revoked"])

    async def keys(self) -> list[dict[str, Any]]:
        """Return the rows of all keys, by requester."""
        return await self._all(
            "select * from requester_keys order by requester, created_at, id"
        )

    async def live(self, ids: list[str]) -> set[str]:
        """Return those of the keys and links *ids* that are accepted now."""
        rows = await self._all(
            "select id from live_keys where id = any(%s)"
            " union all select id from live_links where id = any(%s)",
            ids,
            ids,
        )
        return {row["id"] for row in rows}

    async def create_link(
        self, id: UUID, lasts: timedelta, who: Who = NOBODY
    ) -> dict[str, Any]:
        """Make a link to the file of export *id*: its `id`, `token` and `expires_at`.

        The token cannot be shown again.
        """
        row = await self._one("select * from create_link(%s, %s)", id, lasts, who=who)
        assert row
        return row

    async def links(self, id: UUID) -> list[dict[str, Any]]:
        """Return the rows of the newest links to the file of export *id*."""
        return await self._all(
            "select * from export_links where export = %s"
            " order by created_at desc, id limit 1000",
            id,
        )

    async def find_link(self, digest: bytes) -> Link | None:
        """Return the link whose token has this SHA-256, if it leads to a file now."""
        row = await self._one("select * from find_link(%s)", digest)
        return Link(**row) if row else None

    async def revoke_link(self, id: UUID, link: str, who: Who = NOBODY) -> bool:
        """Let *link* of export *id* lead nowhere; return whether it was accepted."""
        row = await self._one(
            "select revoke_link(%s, %s) as revoked", id, link, who=who
        )
        return bool(row and row["revoked"])

    async def has_keys(self) -> bool:
        """Return whether there is any key that is accepted now."""
        return await self._one("select from live_keys limit 1") is not None

    async def debris(self, names: list[str]) -> dict[str, bool]:
        """Return those of the file *names* that no export refers to.

        The value is True if the file belongs to an export of this database, also
        a deleted one, and False if this database has never had such an export.
        """
        rows = await self._all("select * from find_debris(%s)", names)
        return {row["name"]: row["known"] for row in rows}

    async def delete(self, id: UUID, who: Who = NOBODY) -> str | None:
        """Delete the export; return the name of its file, or "" if it had none.

        Return None if there is no such export.
        """
        row = await self._one("select delete_export(%s) as file", id, who=who)
        return row["file"] if row else None

    async def log(
        self,
        action: Action,
        who: Who,
        *,
        export: Export | None = None,
        bytes: int | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        """Log what was done without changing a row: a download, or a wrong key."""
        await self._one(
            "select log_activity(%s, %s, %s, %s, %s, %s, %s, %s)",
            action,
            export and export.requested_by,
            who.requester,
            who.key,
            who.address,
            export and export.id,
            bytes,
            Jsonb(detail) if detail else None,
        )

    async def activities(self, limit: int, **restrictions: object) -> list[Activity]:
        """Return up to *limit* activities, newest first; see `list_activities`."""
        rows = await self._listed("list_activities", limit, restrictions)
        return [Activity(**row) for row in rows]

    async def prune_activities(self, older_than: timedelta) -> int:
        """Delete some activities logged more than *older_than* ago; return how many."""
        row = await self._one("select prune_activities(%s) as pruned", older_than)
        return int(row["pruned"]) if row else 0

    async def prune(self, older_than: timedelta) -> int:
        """Delete some exports that ended more than *older_than* ago; return how many."""
        row = await self._one("select prune_exports(%s) as pruned", older_than)
        return int(row["pruned"]) if row else 0

    async def rescue(self) -> list[Export]:
        """Take back every export whose lease has expired; return them."""
        return [
            Export(**row) for row in await self._all("select * from rescue_exports()")
        ]

    @asynccontextmanager
    async def _connection(
        self, patience: float = PATIENCE
    ) -> AsyncIterator[psycopg.AsyncConnection[DictRow]]:
        """Lend a connection for up to *patience* seconds, and then sever it.

        If the server turns out to be read-only, replace all connections.
        """
        async with self._pool.connection() as conn:
            try:
                with bounded(conn, patience):
                    yield conn
            except errors.ReadOnlySqlTransaction:
                await self._pool.drain()  # another server may be the primary by now
                raise

    async def _one(
        self,
        statement: Any,
        *params: object,
        patience: float = PATIENCE,
        who: Who | None = None,
    ) -> dict[str, Any] | None:
        rows = await self._all(statement, *params, patience=patience, who=who)
        return rows[0] if rows else None

    async def _all(
        self,
        statement: Any,
        *params: object,
        patience: float = PATIENCE,
        who: Who | None = None,
    ) -> list[dict[str, Any]]:
        async with self._connection(patience) as conn:
            # Pass None if there are no parameters: then psycopg does not look for
            # placeholders in the statement.
            if who is None:
                cursor = await conn.execute(statement, params or None)
            else:
                async with conn.pipeline(), conn.transaction():  # a single round trip
                    await conn.execute(SPEAK, _spoken(who))
                    cursor = await conn.execute(statement, params or None)
            return await cursor.fetchall()

    async def _held(
        self, statement: Any, *params: object, patience: float = PATIENCE
    ) -> None:
        row = await self._one(statement, *params, patience=patience)
        if not (row and row["held"]):
            raise LeaseLost

    async def _status(
        self, statement: Any, *params: object, who: Who | None = None
    ) -> Status | None:
        row = await self._one(statement, *params, who=who)
        return Status(row["status"]) if row and row["status"] else None


def _spoken(who: Who) -> list[str]:
    """Return the parameters of `SPEAK`."""
    return [who.requester or "", who.key or "", who.address or ""]
