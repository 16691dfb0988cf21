"""Turn NOTIFY into wake-ups.

One connection, outside the pool and in autocommit, listens for the whole
process.  A notification says *look*, never *what*: it can be lost while we
reconnect, and merged within a transaction.  Subscribers therefore re-read the
row, and every reconnect wakes all of them.
"""

import asyncio
import logging
from collections.abc import Callable
from uuid import uuid4

import psycopg

from ..postgres.connections import bounded, primary
from ..supervision import Backoff

log = logging.getLogger(__name__)

CHANGED = "exports"  # a status changed: the id, or nothing if there are several
PENDING = "exports_pending"  # there is something to claim
ECHO = "exports_echo"  # what a listener says to itself
SILENCE = 30.0  # seconds without a notification after which we ask for a sign of life
PATIENCE = 10.0  # seconds for that sign, or until we first hear ourselves
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts to reconnect

Hear = Callable[[str], None]


class Listener:
    """Calls back for each notification; `run` it as a task.

    Without a *conninfo* it never hears anything: polling alone has to do.  It is
    `connected` while it hears what it says itself.
    """

    def __init__(self, conninfo: str | None) -> None:
        self._conninfo = conninfo
        self._hears: dict[str, set[Hear]] = {CHANGED: set(), PENDING: set()}
        self._echo = uuid4().hex
        self._deaf = False
        self.connected = asyncio.Event()

    def subscribe(self, channel: str, hear: Hear) -> Callable[[], None]:
        """Call *hear* with each payload on *channel*; return how to stop that.

        An empty payload means that anything may have changed.
        """
        self._hears[channel].add(hear)
        return lambda: self._hears[channel].discard(hear)

    async def run(self) -> None:
        """Listen for ever, reconnecting as often as it takes."""
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while self._conninfo is not None:
            try:
                async with await self._connect("listener") as conn:
                    backoff.reset()
                    await self._listen(conn)
            except psycopg.OperationalError as error:
                log.warning("listener lost its connection: %s", str(error).strip())
            finally:
                self.connected.clear()
            await backoff.pause()

    async def _listen(self, conn: psycopg.AsyncConnection) -> None:
        """Tell what is heard, until a sign of life is not."""
        with bounded(conn, PATIENCE):
            for channel in (ECHO, *self._hears):
                await conn.execute(f"listen {channel}")
        patience = PATIENCE
        heard = True
        while heard:
            await self._say()
            heard = False
            async for notify in conn.notifies(timeout=patience):
                if notify.channel != ECHO:
                    self._tell(notify.channel, notify.payload)
                elif notify.payload == self._echo:
                    heard = True
                    self._hear_myself()
            patience = SILENCE
        if not self._deaf:
            log.warning(
                "notifications do not arrive: is there a pooler in between? Set"
                " LISTEN_DATABASE_URL to the server itself; until then we poll"
            )
        self._deaf = True

    async def _say(self) -> None:
        """Give a sign of life, by a connection of its own.

        A transaction pooler hands a connection what it says itself, and nothing
        that others say.
        """
        async with await self._connect("echo") as conn:
            with bounded(conn, PATIENCE):
                await conn.execute("select pg_notify(%s, %s)", [ECHO, self._echo])

    async def _connect(self, name: str) -> psycopg.AsyncConnection:
        assert self._conninfo is not None
        return await psycopg.AsyncConnection.connect(
            primary(self._conninfo), autocommit=True, application_name=name
        )

    def _hear_myself(self) -> None:
        if not self.connected.is_set():
            self._deaf = False
            self.connected.set()
            for channel in self._hears:
                self._tell(channel, "")

    def _tell(self, channel: str, payload: str) -> None:
        for hear in tuple(self._hears[channel]):
            hear(payload)
