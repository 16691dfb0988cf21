"""Claim exports and run several at a time, in slots; `attempt` runs each of them."""

import asyncio
import logging
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter

import psycopg

from .attempt import Means, RunningAttempt, about
from .config import Settings
from .copying.lanes import Lanes
from .metrics import Metrics
from .model import PRIORITIES, Export
from .postgres.reader import Readers
from .queue.calls import Queue
from .queue.listener import CHANGED, PENDING, Listener
from .storage import Directory
from .supervision import Backoff, wait

log = logging.getLogger(__name__)

GATHER = 0.002  # seconds in which slots become free together, while others are busy
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds after a claim has failed
PAUSE_WITHOUT_FILE = 5.0  # seconds after a file could not be created
LOOK_EVERYWHERE = 1.0  # seconds between claims that also search below the floors
LATE = 0.25  # seconds in which what is submitted is committed, as a rule


class Worker:
    """Run up to `settings.worker_slots` exports at a time, until it is drained.

    A draining worker claims nothing more.  It lets running exports finish for
    `settings.drain_timeout`, and hands the others back; then `run` returns.
    """

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        listener: Listener,
        storage: Directory,
        readers: Readers,
        metrics: Metrics,
    ) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._settings = settings
        self._queue = queue
        self._listener = listener
        self._storage = storage
        self._readers = readers
        self._metrics = metrics
        metrics.slots.set(settings.worker_slots)
        self._draining = asyncio.Event()
        self._late = asyncio.Event()
        self._wake = asyncio.Event()  # there is work, or a free slot, or we drain
        self._busy = 0  # number of slots in use
        self._running: set[RunningAttempt] = set()
        # for each priority, the turn of the export claimed last; and what it was twice
        # before, at least LATE ago
        self._reached: list[int | None] = [None] * PRIORITIES
        self._before = self._floors = [*self._reached]
        self._moved_at = 0.0
        self._looked_everywhere = 0.0
        self._no_room = False
        self._cannot_create = ""  # why the last attempt could not create its file

    async def run(self) -> None:
        forget = [
            self._listener.subscribe(PENDING, self._hear_pending),
            self._listener.subscribe(CHANGED, self._hear_changed),
        ]
        means = Means(
            self._settings,
            self._queue,
            self._storage,
            self._readers,
            self._metrics,
            Lanes(self._settings.lanes),
            ThreadPoolExecutor(self._settings.worker_slots, "copy"),
            self._late,
        )
        self._busy = 0
        try:
            async with asyncio.TaskGroup() as slots:
                await self._fill(slots, means)
        finally:
            for unsubscribe in forget:
                unsubscribe()
            means.threads.shutdown(wait=False)
            await asyncio.to_thread(means.lanes.close)

    def drain(self) -> None:
        """Begin to drain; see the class."""
        self._draining.set()
        self._wake.set()
        asyncio.get_running_loop().call_later(
            self._settings.drain_timeout, self._late.set
        )

    def _hear_pending(self, _payload: str) -> None:
        self._wake.set()

    def _hear_changed(self, payload: str) -> None:
        for attempt in self._running:
            if attempt.name.startswith(payload):
                attempt.look()

    async def _fill(self, slots: asyncio.TaskGroup, means: Means) -> None:
        """Claim exports for the free slots, until draining begins."""
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while not self._draining.is_set():
            if self._busy > 1:  # Fill slots that become free together with one claim.
                await asyncio.sleep(GATHER)
            # Clear it before the claim, to keep a notification that arrives meanwhile.
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
                    if not self._wake.is_set():  # something may have become due
                        self._looked_everywhere = 0.0
            except Exception as error:
                known = isinstance(error, psycopg.Error)
                log.warning("cannot claim: %s", error, exc_info=not known)
                await backoff.pause(unless=self._draining)
                continue
            backoff.reset()
            for export in claimed:
                self._busy += 1
                slots.create_task(self._occupy(RunningAttempt(means, export, asked)))

    async def _occupy(self, attempt: RunningAttempt) -> None:
        """Run the attempt in a slot."""
        self._running.add(attempt)
        try:
            with self._metrics.slots_in_use.track_inprogress():
                outcome = await attempt.run()
            self._metrics.attempts.labels(outcome).inc()
        except Exception:
            # The export is rescued when its lease expires; other slots go on.
            self._metrics.task_failures.labels("export").inc()
            id = attempt.export.id
            about(attempt.export).exception("export %s failed unexpectedly", id)
        finally:
            self._running.discard(attempt)
            self._cannot_create = attempt.cannot_create or self._cannot_create
            self._busy -= 1
            self._wake.set()

    async def _is_room(self) -> bool:
        """Return whether files can be written; if not, wait a little first."""
        try:
            free = self._storage.free()
            full = free < self._settings.min_free_disk
            problem = f"{free:,} bytes are left on the disk" if full else ""
        except OSError as error:
            problem = f"the exports cannot be written: {error.strerror}"
        patience = min(1.0, self._settings.poll_interval)
        if self._cannot_create:
            # Wait longer, so that another worker, which may be able to create the
            # file, claims the export first.
            problem, self._cannot_create = self._cannot_create, ""
            patience = PAUSE_WITHOUT_FILE
        if problem and not self._no_room:
            log.warning("nothing is claimed: %s", problem)
        self._no_room = bool(problem)
        if problem:
            await wait(self._draining, patience)
        return not problem

    async def _claim(self, everywhere: bool, limit: int) -> list[Export]:
        """Claim at or above the floors, or *everywhere*; see `claim_exports`."""
        now = time.monotonic()
        if everywhere:
            self._looked_everywhere = now
        if now - self._moved_at > LATE:
            self._floors, self._before = self._before, [*self._reached]
            self._moved_at = now
        floors = None if everywhere else self._floors
        claimed = await self._queue.claim(
            self.name, self._settings.lease, floors, limit
        )
        for export in sorted(claimed, key=attrgetter("turn")):
            self._reached[export.priority] = export.turn
            assert export.started_at
            waited = (export.started_at - export.run_at).total_seconds()
            self._metrics.claim_latency.observe(max(0, waited))
        return claimed

    async def _idle_for(self, everywhere: bool) -> float:
        """Return how long to wait for a notification after a claim found nothing."""
        poll = self._settings.poll_interval
        if not everywhere:
            return min(poll, LOOK_EVERYWHERE)
        due = await self._queue.next_in()
        return poll if due is None else min(poll, due)
