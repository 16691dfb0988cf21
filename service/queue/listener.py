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

CHANGED = "exports"  # a status changed; the payload is the id, or empty if many did
PENDING = "exports_pending"  # there is something to claim
DELETED = "exports_deleted"  # the id, a space, and the requester of what was deleted
KEYS = "exports_keys"  # a key has changed
ECHO = "exports_echo"  # a listener notifies itself, to check that LISTEN works
SILENCE = 30.0  # seconds between echoes; each must arrive before the next is sent
PATIENCE = 10.0  # seconds for a statement, and for the first echo
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts to reconnect

Hear = Callable[[str], None]


class Listener:
    """Call back for each notification; `run` it as a task.

    If *conninfo* is None, it does not listen, and its subscribers must poll.
    `connected` is set while it receives the notifications that it sends to itself.
    """

    def __init__(self, conninfo: str | None) -> None:
        self._conninfo = conninfo
        channels = (DELETED, CHANGED, PENDING, KEYS)
        self._hears: dict[str, set[Hear]] = {channel: set() for channel in channels}
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
        """Listen until cancelled; reconnect whenever the connection is lost."""
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
        """Pass on notifications, until our own echo fails to arrive."""
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
                "notifications do not arrive; polling instead. Set LISTEN_DATABASE_URL"
                " to the server itself if there is a transaction pooler in between"
            )
        self._deaf = True

    async def _say(self) -> None:
        """Send the echo, through a separate connection.

        Through a transaction pooler, a connection receives its own notifications
        but not those of others, so it must not send the echo itself.
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
