"""Rescue exports whose worker was lost, and remove files that nobody refers to.

Every process may run one; the SQL functions let each row be rescued once, and
tell debris from what is still in use.
"""

import asyncio
import logging
from contextlib import suppress

import psycopg

from .config import Settings
from .metrics import Metrics
from .queue import Queue
from .storage import Directory

log = logging.getLogger(__name__)


class Janitor:
    def __init__(
        self, settings: Settings, queue: Queue, storage: Directory, metrics: Metrics
    ) -> None:
        self._queue = queue
        self._storage = storage
        self._metrics = metrics
        self._every = settings.lease / 2
        self._retention = settings.retention

    async def run(self) -> None:
        """Look after the exports for ever, twice in a lease."""
        while True:
            try:
                await self._rescue()
                await self._sweep()
            except (psycopg.Error, OSError) as error:
                log.warning("cannot clean up: %s", error)
            await asyncio.sleep(self._every)

    async def _rescue(self) -> None:
        for export in await self._queue.rescue():
            log.warning(
                "export %s rescued: it is %s now",
                export.id,
                export.status,
                extra={"export": str(export.id)},
            )
            self._metrics.rescues.labels(export.status.value).inc()

    async def _sweep(self) -> None:
        # The files first: an export is claimed before its partial is made.
        found = await asyncio.to_thread(lambda: list(self._storage.list()))
        if not found:
            return
        debris = await self._queue.debris(sorted({name for name, _, _ in found}))
        for name, entry, age in found:
            if name in debris and (debris[name] or 0 < self._retention < age):
                log.info("removing %s: no export refers to it", entry)
                with suppress(FileNotFoundError):
                    await asyncio.to_thread(self._storage.path(entry).unlink)
