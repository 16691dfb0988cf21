"""Recognize keys, mostly without a query, and links.

A key that was seen is recognized again for `FRESH` seconds, unless a notification
says that keys have changed.  Answers that take long, such as event streams, hold
the key or the link that opened them, and are dropped when that is no longer accepted.
"""

import asyncio
import hashlib
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from ..model import Key, Link, Who
from ..supervision import wait
from .calls import Queue
from .listener import KEYS, Listener

log = logging.getLogger(__name__)

FRESH = 5.0  # seconds for which a key is recognized, if notifications are lost
LOOK = 5.0  # seconds between looks at the keys that are held
PAUSE = 1.0  # seconds after an error, until the database is asked again
AT_ONCE = 2  # queries for keys; those who make keys up leave room for the others
REMEMBERED = 10_000  # keys
LOGGED = 10  # wrong keys in a minute that are logged as activities
FORM = re.compile(r"(csv_[0-9a-f]{12}_[0-9a-f]{64})([0-9a-f]{8})")
TOKEN = re.compile(r"[0-9a-f]{64}")

Drop = Callable[[], None]


class Keyring:
    """`run` it as a task; use it from the same event loop."""

    def __init__(self, queue: Queue, listener: Listener) -> None:
        self._queue = queue
        self._listener = listener
        self._known: dict[bytes, tuple[Key, float]] = {}  # and until when
        self._changes = 0  # notifications that we have heard
        self._held: dict[str, set[Drop]] = {}
        self._look = asyncio.Event()
        self._asking = asyncio.Semaphore(AT_ONCE)
        self._logged: deque[float] = deque(maxlen=LOGGED)  # when each was

    async def recognize(self, shown: str) -> Key | None:
        """Return the key that is *shown*; None if it is not accepted."""
        if not is_well_formed(shown):
            return None
        digest = hashlib.sha256(shown.encode()).digest()
        key, until = self._known.get(digest, (None, 0.0))
        if time.monotonic() < until and self._listener.connected.is_set():
            return key
        self._known.pop(digest, None)
        async with self._asking:
            asked, changes = time.monotonic(), self._changes
            key = await self._queue.find_key(digest)
        # It may have changed again since it was read.
        if key and changes == self._changes:
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            left = FRESH if key.seconds_left is None else key.seconds_left
            self._known[digest] = key, asked + min(FRESH, left)
        return key

    async def log_refused(self, address: str | None) -> None:
        """Log that a wrong key came from *address*, unless there were many lately.

        Strangers cause it, so it takes little, and nothing depends on it.
        """
        now = time.monotonic()
        if len(self._logged) == LOGGED and now - self._logged[0] < 60:
            return
        self._logged.append(now)
        try:
            await self._queue.log("key-refused", Who("", None, address))
        except psycopg.Error as error:
            log.warning("a wrong key could not be logged: %s", error)

    async def find_link(self, token: str) -> Link | None:
        """Return the link with this secret part, if it leads to a file now."""
        if not TOKEN.fullmatch(token):
            return None
        async with self._asking:
            return await self._queue.find_link(hashlib.sha256(token.encode()).digest())

    @contextmanager
    def holding(self, id: str, drop: Drop) -> Iterator[None]:
        """Call *drop* if the key or link *id* ends before the block does."""
        drops = self._held.setdefault(id, set())
        drops.add(drop)
        try:
            yield
        finally:
            drops.discard(drop)
            if not drops and self._held.get(id) is drops:
                del self._held[id]

    async def run(self) -> None:
        """Look at the keys and links that are held, until cancelled."""
        unsubscribe = self._listener.subscribe(KEYS, self._hear)
        try:
            while True:
                await wait(self._look, LOOK)
                self._look.clear()
                try:
                    await self._drop_ended()
                except psycopg.Error as error:
                    log.warning("keys: %s", error)
                    self._look.set()
                    await asyncio.sleep(PAUSE)
        finally:
            unsubscribe()

    def forget(self) -> None:
        """Recognize no key without a query; those that are held are looked at."""
        self._hear("")

    def _hear(self, _payload: str) -> None:
        self._known.clear()
        self._changes += 1
        self._look.set()

    async def _drop_ended(self) -> None:
        asked = set(self._held)
        if asked:
            live = await self._queue.live(list(asked))
            for id in asked - live:
                for drop in tuple(self._held.get(id, ())):
                    drop()


def is_well_formed(shown: str) -> bool:
    """Return whether *shown* has the form of a key, and its checksum is right."""
    parts = FORM.fullmatch(shown)
    return (
        parts is not None
        and hashlib.sha256(parts[1].encode()).hexdigest()[:8] == parts[2]
    )
