"""The queue: one method for each SQL function, and the row they speak of.

PostgreSQL decides everything; nothing here updates a row by itself.  After
`claim`, every call presents the export that was claimed, and so its fencing
token.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from . import db
from .db import Pool

PATIENCE = 10.0  # seconds for one call; the connection is severed after that
PRIORITIES = 10  # 0 to 9, the highest first


class Status(StrEnum):
    PENDING = "pending"  # waiting for a worker
    PROCESSING = "processing"  # pending -> processing
    COMPLETED = "completed"  # processing -> completed
    FAILED = "failed"  # processing -> failed
    CANCELLED = "cancelled"  # pending, processing -> cancelled


class ExportError(BaseModel):
    """Why an attempt went wrong, in PostgreSQL's words where they are its."""

    message: str
    sqlstate: str | None = None
    hint: str | None = None
    detail: str | None = None


class Attempt(BaseModel):
    """How an attempt ended: completed, failed, cancelled, released, or lost."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True
    )

    attempt: int
    worker: str
    started_at: datetime
    ended_at: datetime
    outcome: str
    error: ExportError | None = None


class Export(BaseModel):
    """A row of `live_exports`; its JSON is what every client sees."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore"
    )

    id: UUID = Field(alias="jobId")
    status: Status
    progress: int
    rows: int
    bytes: int
    estimated_rows: int
    rows_per_second: int | None = None
    eta_seconds: int | None = None
    source: str | None
    columns: list[str] | None
    query: str | None
    sql_text: str = Field(exclude=True)
    sha256: str | None
    file_path: str | None = Field(exclude=True)
    error: ExportError | None
    history: list[Attempt]
    priority: int
    attempt: int
    max_attempts: int
    requested_by: str
    run_at: datetime
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None

    @property
    def ended(self) -> bool:
        return self.status not in (Status.PENDING, Status.PROCESSING)


class LeaseLost(Exception):
    """The export is no longer ours: cancelled, rescued, or deleted."""


class Queue:
    """What can be done with exports, each in a transaction of its own.

    Every method raises `psycopg.Error` when PostgreSQL refuses or is away, and
    none waits much longer than `PATIENCE`.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        max_pending: int | None = None,
        retention: timedelta | None = None,
    ) -> None:
        self._pool = pool
        self._max_pending = max_pending
        self._retention = retention

    async def ping(self) -> None:
        """Raise `psycopg.Error` unless the database answers."""
        await self._one("select 1")

    async def submit(
        self,
        *,
        source: str | None = None,
        columns: list[str] | None = None,
        query: str | None = None,
    ) -> Export:
        """Create an export; it is refused here if the reader could not run it.

        Raises `psycopg.errors.ConfigurationLimitExceeded` when too many wait.
        """
        row = await self._one(
            "insert into exports (source, columns, query)"
            " select %s::text, %s::text[], %s::text"
            " from set_config('exports.max_pending', %s, true) returning *",
            source,
            columns,
            query,
            str(self._max_pending or ""),
        )
        assert row
        return Export(**row)

    async def get(self, id: UUID) -> Export | None:
        """Return the export as of now, with live rows and bytes."""
        row = await self._one("select * from live_exports where id = %s", id)
        return Export(**row) if row else None

    async def page(
        self,
        limit: int,
        status: Status | None = None,
        before: tuple[datetime, UUID] | None = None,
    ) -> list[Export]:
        """Return up to *limit* exports, newest first, created *before* that one."""
        rows = await self._all(
            "select * from list_exports(%s, %s, %s, %s)",
            status,
            limit,
            *(before or (None, None)),
        )
        return [Export(**row) for row in rows]

    async def claim(
        self, worker: str, lease: float, floors: list[datetime | None] | None = None
    ) -> Export | None:
        """Lease the next pending export to *worker*, or return `None`.

        Two callers never receive the same export: it is locked and leased in
        one statement.  Present the returned export to every later call.  Its
        `attempt` is the fencing token: once the lease is lost, those calls
        change nothing and raise `LeaseLost`.

        *floors* has, for each priority, the `run_at` claimed last: the search
        begins there.
        """
        row = await self._one(
            "select * from claim_export(%s, %s, %s::timestamptz[])",
            worker,
            timedelta(seconds=lease),
            floors or [],
        )
        return Export(**row) if row else None

    async def next_in(self) -> float | None:
        """Return the seconds until the next export is due that is not yet."""
        row = await self._one("select next_export_in() as due")
        return row["due"].total_seconds() if row and row["due"] else None

    async def heartbeat(
        self, export: Export, lease: float, rows: int, bytes: int
    ) -> None:
        """Extend the lease and report how far the copy came."""
        await self._held(
            "select heartbeat_export(%s, %s, %s, %s, %s) is not null as held",
            export.id,
            export.attempt,
            timedelta(seconds=lease),
            rows,
            bytes,
            patience=min(PATIENCE, lease / 3),
        )

    async def complete(
        self, export: Export, rows: int, bytes: int, sha256: str
    ) -> None:
        """Publish the file of this attempt, which is whole and on disk."""
        await self._held(
            "select complete_export(%s, %s, %s, %s, %s, %s) as held",
            export.id,
            export.attempt,
            rows,
            bytes,
            sha256,
            self._retention,
        )

    async def fail(self, export: Export, error: ExportError, transient: bool) -> None:
        """End the attempt with the reason; if it is transient, try again later."""
        await self._held(
            "select fail_export(%s, %s, %s, %s) is not null as held",
            export.id,
            export.attempt,
            Jsonb(error.model_dump(exclude_none=True)),
            transient,
        )

    async def release(self, export: Export) -> None:
        """Hand the export back, to be run by another worker."""
        await self._held(
            "select release_export(%s, %s) as held", export.id, export.attempt
        )

    async def cancel(self, id: UUID) -> Status | None:
        """Cancel what has not ended; return the status it has now, if it exists."""
        return await self._status("select cancel_export(%s) as status", id)

    async def retry(self, id: UUID) -> Status | None:
        """Start over what failed or was cancelled; return its status, if it exists."""
        return await self._status("select retry_export(%s) as status", id)

    async def debris(self, names: list[str]) -> dict[str, bool]:
        """Return those of the files *names* that no export refers to.

        True: their export is known.  False: no such export was ever here.
        """
        rows = await self._all("select * from find_debris(%s)", names)
        return {row["name"]: row["known"] for row in rows}

    async def rescue(self) -> list[Export]:
        """Take back every export whose lease ran out; return them."""
        return [
            Export(**row) for row in await self._all("select * from rescue_exports()")
        ]

    async def _one(
        self, statement: Any, *params: object, patience: float = PATIENCE
    ) -> dict[str, Any] | None:
        rows = await self._all(statement, *params, patience=patience)
        return rows[0] if rows else None

    async def _all(
        self, statement: Any, *params: object, patience: float = PATIENCE
    ) -> list[dict[str, Any]]:
        async with self._pool.connection() as conn:
            with db.bounded(conn, patience):
                cursor = await conn.execute(statement, params)
                return await cursor.fetchall()

    async def _held(
        self, statement: Any, *params: object, patience: float = PATIENCE
    ) -> None:
        row = await self._one(statement, *params, patience=patience)
        if not (row and row["held"]):
            raise LeaseLost

    async def _status(self, statement: Any, id: UUID) -> Status | None:
        row = await self._one(statement, id)
        return Status(row["status"]) if row and row["status"] else None
