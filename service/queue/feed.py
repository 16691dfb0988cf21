"""Events about exports, for all who watch them.

One reader serves all subscribers of a process.  It re-reads the exports that
notifications name, and several times a second the running ones, with one
statement per tick, and hands the same bytes to every subscriber.  With no
subscribers it reads nothing.

An event holds the export's current state.  Events may be merged but are never
reordered, so a subscriber that missed some is up to date after the next one.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import psycopg

from ..model import Export, Status
from ..supervision import wait
from .calls import Queue
from .listener import CHANGED, DELETED, Listener

log = logging.getLogger(__name__)

TICK = 0.2  # seconds between reads while an export is running
GAP = 0.03  # seconds after a read, in which changes collect for the next one
IDLE_TICK = 60.0  # seconds to wait for a notification while nothing is running
BLIND_TICK = 1.0  # seconds between reads of everything while LISTEN is down
PAUSE = 1.0  # seconds after an error, until the database is asked again
BACKLOG = 256 * 1024  # bytes that may wait for a subscriber that does not read
REMEMBERED = 10_000  # deleted exports whose requester is known, between two reads
MARGIN = timedelta(seconds=10)  # a change may commit that long after its timestamp
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Frame(NamedTuple):
    """An event as bytes, and whose export it is about; None: nobody knows."""

    text: bytes
    requester: str | None
    ended: bool


class Subscriber:
    """Iterate over it to get the chunks of a stream, until the stream ends.

    It hears of the exports of *requester*, or of everybody's if that is None.  When
    more than `BACKLOG` bytes wait, the subscriber is not reading: the stream ends
    and *drop* is called.
    """

    def __init__(
        self,
        id: UUID | None,
        since: datetime | None,
        drop: Callable[[], None],
        requester: str | None = None,
    ) -> None:
        self.id = id
        self.since = since
        self.requester = requester
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
        # Chunks are not joined: all subscribers share them, and joining would copy.
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
        # The requesters of exports that were deleted; see `_hear_deletion`.
        self._owners: dict[UUID, str] = {}
        # Any export may have changed: notifications were merged or lost.
        self._anything = False
        self._look = asyncio.Event()
        # The last event of each export that has not ended, and its requester.
        self._shown: dict[UUID, tuple[Status, bytes, str]] = {}
        # The end of each export whose end was announced recently.
        self._told: dict[UUID, datetime] = {}
        self._last = 0  # number of the last event: microseconds since 1970

    def __len__(self) -> int:
        """Return the number of subscribers."""
        return len(self._of_all) + sum(map(len, self._of_one.values()))

    def subscribe(
        self,
        id: UUID | None,
        last_event: str | None,
        drop: Callable[[], None],
        requester: str | None = None,
    ) -> Subscriber:
        """Begin a stream of the export *id*, or of all, with the current state.

        If *requester* is given, "all" are the exports of that requester.

        If *last_event* is given, the stream of all exports also contains those
        that have ended since that event.  *drop* is called if the subscriber does
        not read.
        """
        subscriber = Subscriber(id, _instant(last_event), drop, requester)
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
        """Read changes and send them to the subscribers, until cancelled."""
        forget = [
            self._listener.subscribe(DELETED, self._hear_deletion),
            self._listener.subscribe(CHANGED, self._hear),
        ]
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
            for one in forget:
                one()

    def _hear_deletion(self, payload: str) -> None:
        """Remember whose export it was; that it is gone is heard as a change."""
        id, _, owner = payload.partition(" ")
        if len(self) and len(self._owners) < REMEMBERED:
            with suppress(ValueError):  # somebody sent a NOTIFY by hand
                self._owners[UUID(id)] = owner

    def _hear(self, payload: str) -> None:
        if not len(self):
            return  # a new subscriber reads the current state anyway
        try:
            self._changed.add(UUID(payload))
        except ValueError:  # several changed, or somebody sent a NOTIFY by hand
            self._anything = True
        self._look.set()

    def _interval(self) -> float:
        if self._is_busy():
            return TICK
        return IDLE_TICK if self._listener.connected.is_set() else BLIND_TICK

    def _is_busy(self) -> bool:
        return any(status is Status.PROCESSING for status, _, _ in self._shown.values())

    async def _tick(self) -> None:
        newcomers, self._newcomers = self._newcomers, []
        changed, self._changed = self._changed, set()
        owners, self._owners = self._owners, {}
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
            for id, (status, _, _) in self._shown.items()
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
            self._newcomers += newcomers  # they still wait for the current state
            self._changed |= changed
            self._owners |= owners
            raise
        self._tell(exports, read_at, ids, set(newcomers), owners)

    def _since(self, newcomers: list[Subscriber], anything: bool) -> datetime | None:
        """Return the instant since which ended exports must be read, if they must be."""
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
        owners: dict[UUID, str],
    ) -> None:
        self._last = max(self._last, (read_at - EPOCH) // timedelta(microseconds=1))
        self._told = {
            id: ended
            for id, ended in self._told.items()
            if ended > read_at - 2 * MARGIN
        }
        news: list[Frame] = []
        present: list[Frame] = []
        for export in exports:
            text, is_new = self._frame(export)
            frame = Frame(text, export.requested_by, export.ended)
            present.append(frame)
            if is_new:
                news.append(frame)
            for one in self._of_one.get(export.id, ()):
                if is_new or one in newcomers:
                    one.put(text)
                if export.ended:
                    one.end()
        for id in asked - {export.id for export in exports}:
            _, _, owner = self._shown.pop(id, (None, None, owners.get(id)))
            gone = self._event("deleted", b'{"jobId":"%b"}' % str(id).encode())
            news.append(Frame(gone, owner, True))
            for one in self._of_one.get(id, ()):
                one.put(gone)
                one.end()
        # Those who may see the same share the same bytes.
        changes = {
            whose: b"".join(frame.text for frame in frames)
            for whose, frames in _by_requester(news).items()
        }
        states = {
            whose: b"".join(_newest(frames))
            for whose, frames in _by_requester(present).items()
        }
        for one in self._of_all:
            chunks = states if one in newcomers else changes
            one.put(chunks.get(one.requester, b""))

    def _frame(self, export: Export) -> tuple[bytes, bool]:
        """Return the event of *export*, and whether it is news to the subscribers."""
        body = export.model_dump_json(by_alias=True).encode()
        status, shown, _ = self._shown.get(export.id, (None, b"", ""))
        end, is_new = "", body != shown
        if export.finished_at is not None:
            self._shown.pop(export.id, None)
            end = end_of(export)
            is_new = self._told.get(export.id) != export.finished_at
            self._told[export.id] = export.finished_at
        else:
            self._shown[export.id] = export.status, body, export.requested_by
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


def _by_requester(frames: list[Frame]) -> dict[str | None, list[Frame]]:
    """Return the *frames* of the exports of each requester, and under None all."""
    groups: dict[str | None, list[Frame]] = {None: frames}
    for frame in frames:
        if frame.requester is not None:
            groups.setdefault(frame.requester, []).append(frame)
    return groups


def _newest(frames: list[Frame]) -> list[bytes]:
    """Return the *frames* that a new subscriber gets: about `BACKLOG` bytes at most.

    If they are more, the oldest of the ended exports are left out; the others are
    always sent.
    """
    room = BACKLOG - sum(len(frame.text) for frame in frames if not frame.ended)
    kept = []
    for frame in reversed(frames):
        if frame.ended:
            room -= len(frame.text)
        if not frame.ended or room >= 0:
            kept.append(frame.text)
    return kept[::-1]


def end_of(export: Export) -> str:
    """Return the suffix of the id of its last event; "" if it has not ended."""
    if export.finished_at is None:
        return ""
    return f"-{(export.finished_at - EPOCH) // timedelta(microseconds=1)}"


def _instant(event: str | None) -> datetime | None:
    """Return the instant in an event's id, minus `MARGIN`; None if it has none."""
    try:
        return _at(int((event or "").partition("-")[0]))
    except (ValueError, OverflowError):
        return None


def _at(event: int) -> datetime:
    return EPOCH + timedelta(microseconds=event) - MARGIN
