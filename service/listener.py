"""Turn NOTIFY into wake-ups.

One connection, outside the pool and in autocommit, listens for the whole
process.  A notification says *look*, never *what*: it can be lost while we
reconnect, and merged within a transaction.  Subscribers therefore re-read the
row, and every reconnect wakes all of them.
"""

import asyncio
import logging
from collections.abc import Callable

import psycopg

from . import db

log = logging.getLogger(__name__)

CHANGED = "exports"  # a status changed: the id, or nothing if there are several
PENDING = "exports_pending"  # there is something to claim
SILENCE = 30.0  # seconds without a notification after which we ask for a sign of life
PATIENCE = 10.0  # seconds for that sign
LONGEST_PAUSE = 5.0  # seconds between attempts to reconnect

Hear = Callable[[str], None]


class Listener:
    """Calls back for each notification; `run` it as a task.

    Without a *conninfo* it never hears anything: polling alone has to do.
    """

    def __init__(self, conninfo: str | None) -> None:
        self._conninfo = conninfo
        self._hears: dict[str, set[Hear]] = {CHANGED: set(), PENDING: set()}
        self.connected = asyncio.Event()

    def subscribe(self, channel: str, hear: Hear) -> Callable[[], None]:
        """Call *hear* with each payload on *channel*; return how to stop that.

        An empty payload means that anything may have changed.
        """
        self._hears[channel].add(hear)
        return lambda: self._hears[channel].discard(hear)

    async def run(self) -> None:
        """Listen for ever, reconnecting as often as it takes."""
        pause = 0.1
        while self._conninfo is not None:
            try:
                conn = await psycopg.AsyncConnection.connect(
                    db.primary(self._conninfo),
                    autocommit=True,
                    application_name="listener",
                )
                async with conn:
                    pause = 0.1
                    await self._listen(conn)
            except psycopg.OperationalError as error:
                log.warning("listener lost its connection: %s", str(error).strip())
            finally:
                self.connected.clear()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _listen(self, conn: psycopg.AsyncConnection) -> None:
        with db.bounded(conn, PATIENCE):
            await conn.execute("listen exports; listen exports_pending")
        self.connected.set()
        for channel in self._hears:
            self._tell(channel, "")
        while True:
            async for notify in conn.notifies(timeout=SILENCE):
                self._tell(notify.channel, notify.payload)
            with db.bounded(conn, PATIENCE):
                await conn.execute("select 1")

    def _tell(self, channel: str, payload: str) -> None:
        for hear in tuple(self._hears[channel]):
            hear(payload)
