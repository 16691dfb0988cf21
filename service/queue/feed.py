"""What happened, for everybody who watches.

One reader serves all subscribers of a process: it re-reads the exports that the
listener names, and those that are running several times a second, in one
statement a tick, and hands the same bytes to all.  While nobody watches it
reads nothing.

An event is the export as it is now.  Events may be merged, never reordered:
whoever missed some is right again with the next one.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg

from ..model import Export, Status
from ..supervision import wait
from .calls import Queue
from .listener import CHANGED, Listener

log = logging.getLogger(__name__)

TICK = 0.2  # seconds between looks at what is running
GAP = 0.03  # seconds in which changes gather, to be read together
IDLE_TICK = 60.0  # seconds between looks at nothing
BLIND_TICK = 1.0  # seconds between looks at everything, without notifications
PAUSE = 1.0  # seconds until the database is asked again
BACKLOG = 256 * 1024  # bytes that may wait for a subscriber who does not read
MARGIN = timedelta(seconds=10)  # a change may commit that much after its instant
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Subscriber:
    """Iterate to get the chunks of a stream, until it ends.

    `drop` is called when so much waits that the subscriber cannot be reading.
    """

    def __init__(
        self, id: UUID | None, since: datetime | None, drop: Callable[[], None]
    ) -> None:
        self.id = id
        self.since = since
        self._drop = drop
        self._waiting: list[bytes] = []
        self._size = 0
        self._ended = False
        self._more = asyncio.Event()

    def put(self, chunk: bytes) -> None:
        if self._waiting and self._size + len(chunk) > BACKLOG:
            self.end()
            self._drop()
        elif chunk and not self._ended:
            self._waiting.append(chunk)
            self._size += len(chunk)
            self._more.set()

    def end(self) -> None:
        self._ended = True
        self._more.set()

    def __aiter__(self) -> "Subscriber":
        return self

    async def __anext__(self) -> bytes:
        await self._more.wait()
        if not self._waiting:
            raise StopAsyncIteration
        # Not joined: others have the same bytes, and nobody needs a copy.
        chunk = self._waiting.pop(0)
        self._size -= len(chunk)
        if not self._ended and not self._waiting:
            self._more.clear()
        return chunk


class Feed:
    """`run` it as a task; `subscribe` from the same event loop."""

    def __init__(self, queue: Queue, listener: Listener) -> None:
        self._queue = queue
        self._listener = listener
        self._of_all: set[Subscriber] = set()
        self._of_one: dict[UUID, set[Subscriber]] = {}
        self._newcomers: list[Subscriber] = []
        self._changed: set[UUID] = set()
        self._anything = False  # may have changed: notifications were merged, or lost
        self._look = asyncio.Event()
        self._shown: dict[UUID, tuple[Status, bytes]] = {}  # what has not ended
        self._told: dict[UUID, datetime] = {}  # when what was told last has ended
        self._last = 0  # event

    def __len__(self) -> int:
        """How many watch."""
        return len(self._of_all) + sum(map(len, self._of_one.values()))

    def subscribe(
        self, id: UUID | None, last_event: str | None, drop: Callable[[], None]
    ) -> Subscriber:
        """Begin a stream, of the export *id* or of all, with the present state.

        After *last_event* the stream of all also tells what ended meanwhile.
        *drop* is called for a subscriber who does not read.
        """
        subscriber = Subscriber(id, _instant(last_event), drop)
        group = self._of_all if id is None else self._of_one.setdefault(id, set())
        group.add(subscriber)
        self._newcomers.append(subscriber)
        self._look.set()
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        self._of_all.discard(subscriber)
        if subscriber.id and (group := self._of_one.get(subscriber.id)):
            group.discard(subscriber)
            if not group:
                del self._of_one[subscriber.id]

    def close(self) -> None:
        """End every stream."""
        for subscriber in self._everybody():
            subscriber.end()

    async def run(self) -> None:
        """Read and tell, for ever."""
        forget = self._listener.subscribe(CHANGED, self._hear)
        try:
            while True:
                await wait(self._look, self._interval())
                self._look.clear()
                try:
                    await self._tick()
                except psycopg.Error as error:
                    log.warning("events: %s", error)
                    self._anything = True
                    self._look.set()
                    await asyncio.sleep(PAUSE)
                await asyncio.sleep(GAP)
        finally:
            forget()

    def _hear(self, payload: str) -> None:
        if not len(self):
            return  # whoever comes will read the present state
        try:
            self._changed.add(UUID(payload))
        except ValueError:  # several changed; or anybody's NOTIFY, which says look, too
            self._anything = True
        self._look.set()

    def _interval(self) -> float:
        if self._is_busy():
            return TICK
        return IDLE_TICK if self._listener.connected.is_set() else BLIND_TICK

    def _is_busy(self) -> bool:
        return any(status is Status.PROCESSING for status, _ in self._shown.values())

    async def _tick(self) -> None:
        newcomers, self._newcomers = self._newcomers, []
        changed, self._changed = self._changed, set()
        anything = self._anything or not self._listener.connected.is_set()
        self._anything = False
        if not len(self):
            self._shown.clear()
        if not len(self) or not (newcomers or changed or anything or self._is_busy()):
            return
        ids = {one.id for one in newcomers if one.id}
        ids |= changed if self._of_all else changed & self._of_one.keys()
        ids |= {
            id
            for id, (status, _) in self._shown.items()
            if anything or status is Status.PROCESSING
        }
        try:
            exports, read_at = await self._queue.watch(
                ids,
                running=bool(self._of_all),
                waiting=bool(self._of_all and (changed or anything or newcomers)),
                since=self._since(newcomers, anything),
            )
        except psycopg.Error:
            self._newcomers += newcomers  # who still wait for the present state
            self._changed |= changed
            raise
        self._tell(exports, read_at, ids, set(newcomers))

    def _since(self, newcomers: list[Subscriber], anything: bool) -> datetime | None:
        """From when on to read what has ended, if at all."""
        asked = [one.since for one in newcomers if one.since and one.id is None]
        if anything and self._of_all and self._last:
            asked.append(_at(self._last))
        return min(asked, default=None)

    def _tell(
        self,
        exports: list[Export],
        read_at: datetime,
        asked: set[UUID],
        newcomers: set[Subscriber],
    ) -> None:
        self._last = max(self._last, (read_at - EPOCH) // timedelta(microseconds=1))
        self._told = {
            id: ended
            for id, ended in self._told.items()
            if ended > read_at - 2 * MARGIN
        }
        news, present = [], []
        for export in exports:
            frame, is_new = self._frame(export)
            present.append((frame, export.ended))
            if is_new:
                news.append(frame)
            for one in self._of_one.get(export.id, ()):
                if is_new or one in newcomers:
                    one.put(frame)
                if export.ended:
                    one.end()
        for id in asked - {export.id for export in exports}:
            self._shown.pop(id, None)
            news.append(
                gone := self._event("deleted", b'{"jobId":"%b"}' % str(id).encode())
            )
            for one in self._of_one.get(id, ()):
                one.put(gone)
                one.end()
        changes, state = b"".join(news), b"".join(_newest(present))
        for one in self._of_all:
            one.put(state if one in newcomers else changes)

    def _frame(self, export: Export) -> tuple[bytes, bool]:
        """Return the event of *export*, and whether it has been told already."""
        body = export.model_dump_json(by_alias=True).encode()
        status, shown = self._shown.get(export.id, (None, b""))
        end, is_new = "", body != shown
        if export.finished_at is not None:
            self._shown.pop(export.id, None)
            end = end_of(export)
            is_new = self._told.get(export.id) != export.finished_at
            self._told[export.id] = export.finished_at
        else:
            self._shown[export.id] = export.status, body
        kind = "progress" if status is export.status else "status"
        return self._event(kind, body, end), is_new

    def _event(self, kind: str, body: bytes, end: str = "") -> bytes:
        self._last += 1
        return f"id: {self._last}{end}\nevent: {kind}\ndata: ".encode() + body + b"\n\n"

    def _everybody(self) -> list[Subscriber]:
        return [
            *self._of_all,
            *(one for group in self._of_one.values() for one in group),
        ]


def _newest(frames: list[tuple[bytes, bool]]) -> list[bytes]:
    """Return the *frames* without the first that have ended, if they are too many.

    Whoever connects gets `BACKLOG` bytes of these at most.
    """
    room = BACKLOG - sum(len(frame) for frame, ended in frames if not ended)
    kept = []
    for frame, ended in reversed(frames):
        if ended:
            room -= len(frame)
        if not ended or room >= 0:
            kept.append(frame)
    return kept[::-1]


def end_of(export: Export) -> str:
    """Return how the id of its last event ends; nothing if it has not ended."""
    if export.finished_at is None:
        return ""
    return f"-{(export.finished_at - EPOCH) // timedelta(microseconds=1)}"


def _instant(event: str | None) -> datetime | None:
    """Return the instant in an event's id, less a margin."""
    try:
        return _at(int((event or "").partition("-")[0]))
    except (ValueError, OverflowError):
        return None


def _at(event: int) -> datetime:
    return EPOCH + timedelta(microseconds=event) - MARGIN
