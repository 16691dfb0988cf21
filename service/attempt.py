"""One attempt at one export: claimed -> copied -> kept -> completed.

The copy runs in a thread, and meanwhile heartbeats extend the lease.  The holder
of the lease owns the partial file.  When a heartbeat or the final report finds
that the lease is lost, the attempt owns nothing any more: it cancels the server's
statement, removes its file, and ends.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import errors

from .config import Settings
from .copying.copy import Copy, LanesFailed, NotEncodable, NotThereYet, TooLarge
from .copying.lanes import Lanes
from .copying.pump import RowsMissing
from .copying.statement import MeansAnother, NotASelect
from .metrics import Metrics
from .model import Export, ExportError, Limit, Receipt, Sliceable, Status
from .postgres.connections import DatabaseError
from .postgres.reader import Readers
from .queue.calls import LeaseLost, Queue
from .storage import CannotCreate, CannotWrite, Directory, Partial
from .supervision import Backoff, wait

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

AT_FIRST = 0.05  # seconds without heartbeats: a short export needs none
BETWEEN_LOOKS = 0.25  # least seconds between heartbeats, with many notifications too
STOP_EVERY = 0.2  # seconds between cancel requests until the copy has ended
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds before the final report is repeated
ROWS_FOR_LANES = 50_000  # expected rows: with fewer, lanes are not considered

# Errors that may pass.  The last two: a server is read-only during a failover, and
# an upgrade has not installed a function yet.
NOT_NOW = (
    psycopg.OperationalError,
    errors.ReadOnlySqlTransaction,
    errors.UndefinedFunction,
)
# The beginnings of SQLSTATEs of errors that may pass, and those that will not.
# Classes: connection, rollback, resources, lock, operator, system, snapshot
TRANSIENT = ("08", "40", "53", "55P03", "57P", "58", "72")
CANCELLED = "57014"
LASTING = ("53400",)  # temp_file_limit


class NoAnswer(LeaseLost):
    """It is not known whether the database received the final report."""


class HandedBack(Exception):
    """The export is handed back for another worker to run; the message says why."""


class TooLong(Exception):
    """The attempt took longer than is allowed."""


# Errors that are logged without a traceback.
KNOWN = (
    psycopg.Error,
    DatabaseError,
    NotASelect,
    MeansAnother,
    NotEncodable,
    NotThereYet,
    RowsMissing,
    TooLarge,
    TooLong,
    OSError,
)


@dataclass(frozen=True)
class Means:
    """The objects that all attempts of a worker share."""

    settings: Settings
    queue: Queue
    storage: Directory
    readers: Readers
    metrics: Metrics
    lanes: Lanes
    threads: ThreadPoolExecutor
    late: asyncio.Event  # set when draining has taken too long


class RunningAttempt:
    """An attempt that holds its lease; call `run` once.

    *claimed_at* is the `time.monotonic()` from before the claim.
    """

    def __init__(self, means: Means, export: Export, claimed_at: float) -> None:
        assert export.file_path
        self.name = export.file_path
        self.cannot_create = ""  # why the file could not be created, if so
        self._means = means
        self.export = export
        self._theirs = f"the limit of {export.requested_by}"
        self._claimed_at = claimed_at
        self._log = about(export)
        self._began = time.monotonic()
        self._copy: Copy
        self._beating: asyncio.Task[None] | None = None
        self._look = asyncio.Event()  # send a heartbeat, which also checks the lease
        self._hurry = asyncio.Event()  # do not wait until BETWEEN_LOOKS has passed
        self._over = asyncio.Event()

    def look(self) -> None:
        """Check the lease soon: the export may have changed."""
        self._look.set()

    async def run(self) -> str:
        """Copy the export and report the outcome to the queue; return the outcome.

        It is "completed", "released", "retried", "failed" or "lost".
        """
        try:
            try:
                return await self._complete(await self._copied())
            except HandedBack as reason:
                return await self._release(str(reason))
            except LeaseLost:
                raise
            except Exception as error:
                return await self._fail(error)
        except NoAnswer:
            # The report may have arrived.  If not, the janitor removes the file.
            self._log.warning(
                "export %s: the outcome could not be reported before the lease ended",
                self.export.id,
            )
        except LeaseLost:
            self._means.storage.delete(self.name)
            self._log.info(
                "export %s is no longer ours: attempt %d dropped",
                self.export.id,
                self.export.attempt,
            )
        finally:
            # The heartbeat is not cancelled: during a query, a cancellation would
            # cost the connection.
            self._over.set()
            self._look_now()
            if self._beating:
                await self._beating
        return "lost"

    async def _copied(self) -> Partial:
        """Return the complete file, on disk; raise the reason if there is none."""
        settings = self._means.settings
        self._copy = Copy(
            self._means.readers.of(self.export.reader),
            f"export {self.export.id}",
            self.export.sql_text,
            self.export,
            search_path=self.export.search_path,
            relations=self.export.relations,
            settings=self.export.settings,
            max_bytes=Limit.lowest(
                (settings.max_export_bytes, "MAX_EXPORT_BYTES"),
                (self.export.max_bytes, self._theirs),
            ),
            max_rows=Limit.lowest((self.export.max_rows, self._theirs)),
            sliceable=await self._slices(),
            pool=self._means.lanes,
        )
        longest = Limit.lowest(
            (settings.max_export_duration, "MAX_EXPORT_DURATION"),
            (self.export.max_seconds, self._theirs),
        )
        loop = asyncio.get_running_loop()
        copying = loop.run_in_executor(self._means.threads, self._write, loop)
        timed_out = False
        # By then, most exports have ended, and the notification of our own claim
        # has arrived.
        await asyncio.wait({copying}, timeout=AT_FIRST)
        if not copying.done():
            self._beating = asyncio.create_task(self._keep_lease())
            late = asyncio.create_task(self._means.late.wait())
            waiting: list[asyncio.Future[Any]] = [copying, self._beating, late]
            done, _ = await asyncio.wait(
                waiting,
                timeout=longest.most if longest else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            late.cancel()
            timed_out = not done
        if not copying.done():
            await self._halt(copying)
        error = copying.exception()
        if error is None:
            return copying.result()
        if self._beating and self._beating.done():
            raise LeaseLost
        if self._means.late.is_set():
            raise HandedBack("it did not finish within DRAIN_TIMEOUT")
        if timed_out and longest:
            raise TooLong(
                f"it took longer than {longest.most:g} seconds, which is {longest.name}"
            )
        if isinstance(error, CannotCreate):
            self.cannot_create = f"the exports cannot be written: {error}"
            raise HandedBack(self.cannot_create)
        raise error

    async def _slices(self) -> Sliceable | None:
        """Return how to divide a large table; None if it is small or cannot be divided.

        None also if the database does not answer: lanes are only an optimization.
        """
        lanes, expected = self._means.settings.lanes, self.export.estimated_rows
        if lanes > 1 and expected >= ROWS_FOR_LANES:
            with suppress(psycopg.Error):
                return await self._means.queue.slices(self.export)
        return None

    def _write(self, loop: asyncio.AbstractEventLoop) -> Partial:
        """Write the file; runs in a thread."""
        try:
            return self._write_once(loop, by_lanes=True)
        except LanesFailed as error:
            self._log.warning(
                "export %s: copying in one stream, because lanes failed: %s",
                self.export.id,
                error,
            )
            return self._write_once(loop, by_lanes=False)

    def _write_once(
        self, loop: asyncio.AbstractEventLoop, *, by_lanes: bool
    ) -> Partial:
        with self._means.storage.create(self.name) as partial:
            self._copy.run(partial.write, by_lanes=by_lanes)
            # The COPY has ended, so the server no longer shows its figures: a
            # heartbeat has to write the final ones to the row.
            loop.call_soon_threadsafe(self._look_now)
            partial.keep()
        return partial

    async def _halt(self, copying: asyncio.Future[Partial]) -> None:
        while not copying.done():
            with suppress(psycopg.Error):
                await asyncio.to_thread(self._copy.stop)
            await asyncio.wait({copying}, timeout=STOP_EVERY)

    def _look_now(self) -> None:
        self._hurry.set()
        self._look.set()

    async def _keep_lease(self) -> None:
        """Extend the lease until the attempt is over, or the lease is or may be lost.

        Its end is counted from before each request was sent, so it is never later
        here than in the database.
        """
        settings, asked = self._means.settings, self._claimed_at
        until = asked + settings.lease
        while time.monotonic() < until:
            await wait(self._look, settings.heartbeat)
            await wait(self._hurry, asked + BETWEEN_LOOKS - time.monotonic())
            self._look.clear()
            if self._over.is_set():
                return
            asked = time.monotonic()
            rows, share = self._copy.rows, self._copy.share
            try:
                await self._means.queue.heartbeat(
                    self.export,
                    settings.lease,
                    rows,
                    self._copy.bytes,
                    round(rows / share) if share else None,
                )
                until = asked + settings.lease
            except LeaseLost:
                return
            except psycopg.Error as error:
                self._log.warning(
                    "export %s: heartbeat failed: %s", self.export.id, error
                )

    async def _complete(self, file: Partial) -> str:
        copy, metrics = self._copy, self._means.metrics
        receipt = Receipt(
            copy.rows, file.bytes, file.sha256, copy.columns, copy.snapshot_at
        )
        await self._insist(self._means.queue.complete, receipt)
        self._log.info("export %s completed: %d rows", self.export.id, copy.rows)
        metrics.rows.inc(copy.rows)
        metrics.bytes.inc(file.bytes)
        metrics.duration.observe(time.monotonic() - self._began)
        return "completed"

    async def _release(self, reason: str) -> str:
        await self._insist(self._means.queue.release)
        level = logging.WARNING if self.cannot_create else logging.INFO
        self._log.log(level, "export %s handed back: %s", self.export.id, reason)
        return "released"

    async def _fail(self, error: Exception) -> str:
        status = await self._insist(
            self._means.queue.fail,
            describe(error),
            is_transient(error),
            self._copy.rows,
            self._copy.bytes,
        )
        self._means.storage.delete(self.name)
        self._log.warning(
            "export %s failed: %s",
            self.export.id,
            error,
            exc_info=None if isinstance(error, KNOWN) else error,
        )
        return "retried" if status is Status.PENDING else "failed"

    async def _insist(
        self, say: Callable[..., Awaitable[Answer]], *result: object
    ) -> Answer:
        """Report the outcome with *say*; repeat it while the database is unreachable.

        Every report may be repeated.  After the length of a lease another worker
        may have the export: raise `NoAnswer`.
        """
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._means.settings.lease):
                while True:
                    try:
                        return await say(self.export, *result)
                    except NOT_NOW as error:
                        self._log.warning(
                            "export %s: cannot report the outcome, trying again: %s",
                            self.export.id,
                            error,
                        )
                    await backoff.pause()
        raise NoAnswer


def about(export: Export) -> logging.LoggerAdapter[logging.Logger]:
    """Return a logger that adds the export's id and attempt to every line."""
    return logging.LoggerAdapter(
        log, {"export": str(export.id), "attempt": export.attempt}
    )


def describe(error: Exception) -> ExportError:
    """Return the error to store: PostgreSQL's own message, if it produced one."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return ExportError(
            message=error.diag.message_primary,
            sqlstate=error.sqlstate,
            hint=error.diag.message_hint,
            detail=error.diag.message_detail,
        )
    if isinstance(error, CannotWrite):
        return ExportError(message=f"the file cannot be written: {error.strerror}")
    if isinstance(error, OSError) and error.strerror:
        return ExportError(message=f"the worker cannot go on: {error.strerror}")
    return ExportError(message=str(error).strip() or type(error).__name__)


def is_transient(error: Exception) -> bool:
    """Return whether the same export may succeed when it is tried again later.

    It may if the server, the network or the disk was at fault, but not if the
    SELECT, its rights or a limit was.
    """
    if isinstance(error, psycopg.OperationalError):
        code = error.sqlstate
        if code == CANCELLED:  # by somebody, or by a timeout such as statement_timeout
            return "timeout" not in (error.diag.message_primary or "")
        return code is None or code.startswith(TRANSIENT) and code not in LASTING
    return isinstance(error, (OSError, NotThereYet, RowsMissing))
