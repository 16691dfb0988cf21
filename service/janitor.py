"""Rescue exports whose worker was lost.

Every process may run one; the SQL function lets each row be rescued once.
"""

import asyncio
import logging

import psycopg

from .queue import Queue

log = logging.getLogger(__name__)


class Janitor:
    def __init__(self, queue: Queue, every: float) -> None:
        self._queue = queue
        self._every = every

    async def run(self) -> None:
        """Look after the exports for ever, once in *every* seconds."""
        while True:
            try:
                for export in await self._queue.rescue():
                    log.warning(
                        "export %s rescued: it is %s again", export.id, export.status
                    )
            except psycopg.Error as error:
                log.warning("cannot rescue: %s", error)
            await asyncio.sleep(self._every)
