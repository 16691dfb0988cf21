"""Slots that claim exports and copy them.

claim -> copy -> keep the file -> complete, with a heartbeat beside the copy.
Whoever holds the lease owns the partial; once a heartbeat, or the completion,
says that the lease is lost, the worker owns nothing: it stops the server's
statement, removes what it wrote and goes on with the next export.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from operator import attrgetter
from typing import Any

import psycopg
from psycopg import errors

from .config import Settings
from .copy import Copy, LanesFailed, NotEncodable, NotThereYet, TooLarge
from .db import Sources
from .fence import MeansAnother, NotASelect
from .lanes import Lanes
from .listener import CHANGED, PENDING, Listener
from .metrics import Metrics
from .pump import RowsMissing
from .queue import (
    PRIORITIES,
    Export,
    ExportError,
    LeaseLost,
    Queue,
    Receipt,
    Sliceable,
)
from .storage import CannotCreate, CannotWrite, Directory, Partial
from .tasks import end, wait

log = logging.getLogger(__name__)

STOP_EVERY = 0.2  # seconds between cancel requests until the copy has ended
GATHER = 0.002  # seconds, if other slots are busy meanwhile
AT_FIRST = 0.05  # seconds in which an export may end without a heartbeat
LONGEST_PAUSE = 5.0  # seconds between claims while the database refuses them
PAUSE_WITHOUT_FILE = 5.0  # seconds, after a file that could not be made
BETWEEN_LOOKS = 0.25  # seconds, however often something is announced
ROWS_FOR_LANES = 50_000  # that the planner expects: fewer are not worth a thought
LOOK_EVERYWHERE = 1.0  # seconds between claims that look below the floors

# Also a server that only reads for now, or a function that an upgrade will bring.
NOT_NOW = (
    psycopg.OperationalError,
    errors.ReadOnlySqlTransaction,
    errors.UndefinedFunction,
)
# SQLSTATE classes: connection, rollback, resources, lock, operator, system
TRANSIENT = ("08", "40", "53", "55P03", "57P", "58", "72")
CANCELLED = "57014"
LASTING = ("53400",)  # temp_file_limit


class NoAnswer(LeaseLost):
    """Nobody can tell whether the last word about the export was heard."""


class TooLong(Exception):
    """It ran for longer than MAX_EXPORT_DURATION."""


KNOWN = (
    psycopg.Error,
    NotASelect,
    MeansAnother,
    NotEncodable,
    NotThereYet,
    RowsMissing,
    TooLarge,
    TooLong,
    OSError,
)


class Worker:
    """`settings.worker_slots` slots; `run` returns once `drain` was called.

    Draining claims nothing more, lets running exports finish for
    `settings.drain_timeout`, and hands the rest back.
    """

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        listener: Listener,
        storage: Directory,
        sources: Sources,
        metrics: Metrics,
    ) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._settings = settings
        self._queue = queue
        self._listener = listener
        self._storage = storage
        self._sources = sources
        self._metrics = metrics
        metrics.slots.set(settings.worker_slots)
        self._draining = asyncio.Event()
        self._drained_too_long = asyncio.Event()
        self._late: asyncio.Task[bool]
        self._wake = asyncio.Event()  # something to claim, a free slot, or the end
        self._busy = 0  # slots
        # by the name of the file; set: look at the lease now
        self._running: dict[str, asyncio.Event] = {}
        # by priority: the run_at of what was claimed last
        self._floors: list[datetime | None] = [None] * PRIORITIES
        self._looked_everywhere = 0.0
        self._no_room = False
        self._cannot_create = ""  # why the last attempt got no file
        self._loop: asyncio.AbstractEventLoop
        self._threads: ThreadPoolExecutor
        self._lanes: Lanes

    async def run(self) -> None:
        forget = [
            self._listener.subscribe(PENDING, self._hear_pending),
            self._listener.subscribe(CHANGED, self._hear_changed),
        ]
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(self._settings.worker_slots, "copy")
        self._lanes = Lanes(self._settings.lanes)
        self._busy = 0
        try:
            self._late = asyncio.create_task(self._drained_too_long.wait())
            async with asyncio.TaskGroup() as slots:
                await self._fill(slots)
        finally:
            await end(self._late)
            for unsubscribe in forget:
                unsubscribe()
            self._threads.shutdown(wait=False)
            await asyncio.to_thread(self._lanes.close)

    def drain(self) -> None:
        """Begin to shut down; see the class."""
        self._draining.set()
        self._hear_pending("")
        asyncio.get_running_loop().call_later(
            self._settings.drain_timeout, self._drained_too_long.set
        )

    def _hear_pending(self, _payload: str) -> None:
        self._wake.set()

    def _hear_changed(self, payload: str) -> None:
        for name, look in self._running.items():
            if name.startswith(payload):
                look.set()

    async def _fill(self, slots: asyncio.TaskGroup) -> None:
        """Keep the slots busy with what can be claimed, until it is time to drain."""
        pause = 0.1
        while not self._draining.is_set():
            if self._busy > 1:  # Slots that become free together are filled together.
                await asyncio.sleep(GATHER)
            # Cleared before the claim: what is announced during it is not missed.
            self._wake.clear()
            free = self._settings.worker_slots - self._busy
            if not free:
                await self._wake.wait()
                continue
            if not await self._is_room():
                continue
            asked = time.monotonic()
            everywhere = asked - self._looked_everywhere > LOOK_EVERYWHERE
            try:
                claimed = await self._claim(everywhere, free)
                if not claimed:
                    await wait(self._wake, await self._idle_for(everywhere))
            except Exception as error:
                known = isinstance(error, psycopg.Error)
                log.warning("cannot claim: %s", error, exc_info=not known)
                await wait(self._draining, pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = 0.1
            for export in claimed:
                self._busy += 1
                slots.create_task(self._occupy(export, asked))

    async def _occupy(self, export: Export, claimed_at: float) -> None:
        """Run the export in a slot; its lease lasts from then, at least."""
        try:
            with self._metrics.slots_in_use.track_inprogress():
                outcome = await self._run(export, claimed_at)
            self._metrics.attempts.labels(outcome).inc()
        except Exception:
            # Its lease runs out, and it is rescued; the others are left alone.
            self._metrics.task_failures.labels("export").inc()
            about(export).exception("export %s failed unexpectedly", export.id)
        finally:
            self._busy -= 1
            self._wake.set()

    async def _is_room(self) -> bool:
        """Is there enough space on the disk?  If not, wait a little."""
        try:
            free = self._storage.free()
            full = free < self._settings.min_free_disk
            problem = f"{free:,} bytes are left on the disk" if full else ""
        except OSError as error:
            problem = f"the exports cannot be written: {error.strerror}"
        patience = min(1.0, self._settings.poll_interval)
        if self._cannot_create:
            # Others may have better luck: they find it before we try again.
            problem, self._cannot_create = self._cannot_create, ""
            patience = PAUSE_WITHOUT_FILE
        if problem and not self._no_room:
            log.warning("nothing is claimed: %s", problem)
        self._no_room = bool(problem)
        if problem:
            await wait(self._draining, patience)
        return not problem

    async def _claim(self, everywhere: bool, limit: int) -> list[Export]:
        """Claim from the floors upward, or *everywhere*; see `claim_export`."""
        if everywhere:
            self._looked_everywhere = time.monotonic()
        floors = None if everywhere else self._floors
        claimed = await self._queue.claim(
            self.name, self._settings.lease, floors, limit
        )
        for export in sorted(claimed, key=attrgetter("run_at")):
            self._floors[export.priority] = export.run_at
            assert export.started_at
            waited = (export.started_at - export.run_at).total_seconds()
            self._metrics.claim_latency.observe(max(0, waited))
        return claimed

    async def _idle_for(self, everywhere: bool) -> float:
        """How long to wait for a notification, having found nothing."""
        poll = self._settings.poll_interval
        if not everywhere:
            return min(poll, LOOK_EVERYWHERE)
        due = await self._queue.next_in()
        return poll if due is None else min(poll, due)

    async def _run(self, export: Export, claimed_at: float) -> str:
        """Copy the export; return how the attempt ended."""
        assert export.file_path
        log = about(export)
        began = time.monotonic()
        name, limit = export.file_path, self._settings.max_export_duration
        copy = Copy(
            self._sources,
            f"export {export.id}",
            export.sql_text,
            export,
            search_path=export.search_path,
            relations=export.relations,
            max_bytes=self._settings.max_export_bytes,
            sliceable=await self._slices(export),
            pool=self._lanes,
        )
        look = self._running[name] = asyncio.Event()
        hurry = asyncio.Event()

        def look_now() -> None:
            hurry.set()
            look.set()

        copying = self._loop.run_in_executor(
            self._threads, self._copy, copy, export, name, look_now
        )
        over = asyncio.Event()
        beating: asyncio.Task[None] | None = None
        timed_out = False
        try:
            # Most are over by then; and our own claim, announced too, is heard.
            await asyncio.wait({copying}, timeout=AT_FIRST)
            if not copying.done():
                beating = asyncio.create_task(
                    self._heartbeats(export, copy, claimed_at, look, hurry, over)
                )
                events: list[asyncio.Future[Any]] = [copying, beating, self._late]
                done, _ = await asyncio.wait(
                    events, timeout=limit, return_when=asyncio.FIRST_COMPLETED
                )
                timed_out = not done
            if not copying.done():
                await _halt(copy, copying)
            if not copying.exception():
                file = copying.result()
                receipt = Receipt(
                    copy.rows, file.bytes, file.sha256, copy.columns, copy.snapshot_at
                )
                await self._insist(self._queue.complete, export, receipt)
                log.info("export %s completed: %d rows", export.id, copy.rows)
                self._metrics.rows.inc(copy.rows)
                self._metrics.bytes.inc(file.bytes)
                self._metrics.duration.observe(time.monotonic() - began)
                return "completed"
            elif beating and beating.done():
                raise LeaseLost
            elif self._late.done():
                await self._insist(self._queue.release, export)
                log.info("export %s handed back", export.id)
                return "released"
            elif timed_out:
                raise TooLong(
                    f"it took longer than {limit:g} seconds, which is MAX_EXPORT_DURATION"
                )
            elif isinstance(reason := copying.exception(), CannotCreate):
                self._cannot_create = f"the exports cannot be written: {reason}"
                await self._insist(self._queue.release, export)
                log.warning("export %s handed back: %s", export.id, self._cannot_create)
                return "released"
            raise copying.exception() or AssertionError
        except NoAnswer:
            # It may have been completed.  If not, the janitor finds the file.
            log.warning("export %s is left to others: nobody answers", export.id)
            return "lost"
        except LeaseLost:
            self._storage.delete(name)
            self._let_go(export)
            return "lost"
        except Exception as error:
            known = isinstance(error, KNOWN)
            transient = is_transient(error)
            try:
                await self._insist(
                    self._queue.fail,
                    export,
                    describe(error),
                    transient,
                    copy.rows,
                    copy.bytes,
                )
            except LeaseLost:
                self._let_go(export)
                return "lost"
            self._storage.delete(name)
            log.warning("export %s failed: %s", export.id, error, exc_info=not known)
            return "retried" if transient else "failed"
        finally:
            del self._running[name]
            # Not cancelled: that would cost the connection, were it in a query.
            over.set()
            look_now()
            if beating:
                await beating

    async def _slices(self, export: Export) -> Sliceable | None:
        """Return how to cut what is large; else, or if nobody can tell, nothing."""
        if self._settings.lanes > 1 and export.estimated_rows >= ROWS_FOR_LANES:
            with suppress(psycopg.Error):
                return await self._queue.slices(export)
        return None

    def _let_go(self, export: Export) -> None:
        about(export).info(
            "export %s is no longer ours: attempt %d dropped", export.id, export.attempt
        )

    async def _insist(
        self, tell: Callable[..., Awaitable[None]], export: Export, *result: object
    ) -> None:
        """Say the last word about *export*, again while the database is away.

        All of them may be repeated.  After the length of a lease somebody else
        may have the export: raise `NoAnswer`.
        """
        pause = 0.1
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.lease):
                while True:
                    try:
                        return await tell(export, *result)
                    except NOT_NOW as error:
                        about(export).warning(
                            "export %s: cannot tell: %s", export.id, error
                        )
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
        raise NoAnswer

    def _copy(
        self, copy: Copy, export: Export, name: str, copied: Callable[[], None]
    ) -> Partial:
        try:
            return self._write(copy, name, copied, by_lanes=True)
        except LanesFailed as error:
            about(export).warning(
                "export %s: copied by one stream, as lanes cannot: %s", export.id, error
            )
            return self._write(copy, name, copied, by_lanes=False)

    def _write(
        self, copy: Copy, name: str, copied: Callable[[], None], *, by_lanes: bool
    ) -> Partial:
        with self._storage.create(name) as partial:
            copy.run(partial.write, by_lanes=by_lanes)
            # The server shows no figures any more: those of the row must be the last.
            self._loop.call_soon_threadsafe(copied)
            partial.keep()
        return partial

    async def _heartbeats(
        self,
        export: Export,
        copy: Copy,
        asked: float,
        look: asyncio.Event,
        hurry: asyncio.Event,
        over: asyncio.Event,
    ) -> None:
        """Keep the lease until it is *over*; or return when it is lost, or must be.

        It was *asked* for then: by this clock it ends no later than the database's.
        """
        until = asked + self._settings.lease
        while time.monotonic() < until:
            await wait(look, self._settings.heartbeat)
            await wait(hurry, asked + BETWEEN_LOOKS - time.monotonic())
            look.clear()
            if over.is_set():
                return
            asked = time.monotonic()
            try:
                await self._queue.heartbeat(
                    export,
                    self._settings.lease,
                    copy.rows,
                    copy.bytes,
                    round(copy.rows / copy.share) if copy.share else None,
                )
                until = asked + self._settings.lease
            except LeaseLost:
                return
            except psycopg.Error as error:
                about(export).warning(
                    "export %s: heartbeat failed: %s", export.id, error
                )


def about(export: Export) -> logging.LoggerAdapter[logging.Logger]:
    """Return the log, in which each line carries the export's id and attempt."""
    return logging.LoggerAdapter(
        log, {"export": str(export.id), "attempt": export.attempt}
    )


def describe(error: Exception) -> ExportError:
    """Say what went wrong, with PostgreSQL's own words where it was PostgreSQL."""
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
    """May the same export succeed when it is tried again later?

    So it may when the server, the network or the disk was at fault; not when
    the SELECT, its rights or a limit was.
    """
    if isinstance(error, psycopg.OperationalError):
        code = error.sqlstate
        if code == CANCELLED:  # by somebody else; or its own time is up
            return "timeout" not in (error.diag.message_primary or "")
        return code is None or code.startswith(TRANSIENT) and code not in LASTING
    return isinstance(error, (OSError, NotThereYet, RowsMissing))


async def _halt(copy: Copy, copying: asyncio.Future[Partial]) -> None:
    while not copying.done():
        with suppress(psycopg.Error):
            await asyncio.to_thread(copy.stop)
        await asyncio.wait({copying}, timeout=STOP_EVERY)
    copying.exception()  # expected: it was stopped
