"""Rescue exports whose worker was lost, and remove files that no export refers to.

Every process may run a janitor: the SQL functions make sure that each row is
rescued once, and that no file in use counts as debris.
"""

import asyncio
import logging
import time
from contextlib import suppress
from datetime import timedelta

import psycopg

from .config import Settings
from .metrics import Metrics
from .queue.calls import Queue
from .storage import Directory

log = logging.getLogger(__name__)

SWEEPS = 10  # leases between two searches for unused files
BETWEEN = 0.1  # seconds between batches


class Janitor:
    def __init__(
        self, settings: Settings, queue: Queue, storage: Directory, metrics: Metrics
    ) -> None:
        self._queue = queue
        self._storage = storage
        self._metrics = metrics
        self._every = settings.lease / 2
        self._sweep_every = settings.lease * SWEEPS
        self._swept = float("-inf")
        self._retention = settings.retention
        self._history = timedelta(seconds=settings.history)
        self._activities = timedelta(seconds=settings.activity_retention)

    async def run(self) -> None:
        """Clean up until cancelled: exports twice per lease, files less often."""
        while True:
            try:
                # A lost worker has left a partial file: search for it at once.
                if await self._rescue() or self._due():
                    self._swept = time.monotonic()
                    await self._prune()
                    await self._sweep()
            except (psycopg.Error, OSError) as error:
                log.warning("cannot clean up: %s", error)
            await asyncio.sleep(self._every)

    def _due(self) -> bool:
        return time.monotonic() - self._swept >= self._sweep_every

    async def _rescue(self) -> int:
        rescued = await self._queue.rescue()
        for export in rescued:
            log.warning(
                "export %s rescued: it is %s now",
                export.id,
                export.status,
                extra={"export": str(export.id)},
            )
            self._metrics.rescues.labels(export.status.value).inc()
        return len(rescued)

    async def _prune(self) -> None:
        """Delete exports that ended long ago, and old activities, in batches."""
        for prune, age in (
            (self._queue.prune, self._history),
            (self._queue.prune_activities, self._activities),
        ):
            while age and await prune(age):
                await asyncio.sleep(BETWEEN)

    async def _sweep(self) -> None:
        # List the files before the exports are read.  An export is claimed before its
        # file is created, so every file in this list belongs to an older claim.
        found = await asyncio.to_thread(lambda: list(self._storage.list()))
        if not found:
            return
        debris = await self._queue.debris(sorted({name for name, _, _ in found}))
        for name, entry, age in found:
            # A file of an export that is not known here may be another database's.
            if name in debris and (debris[name] or 0 < self._retention < age):
                log.info("removing %s: no export refers to it", entry)
                with suppress(FileNotFoundError):
                    await asyncio.to_thread(self._storage.path(entry).unlink)
