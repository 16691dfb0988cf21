"""Copy slices of a table with several processes, the lanes, under one snapshot.

A slice is a range of a table's blocks.  With n lanes, each lane copies every n-th
slice into memory that it shares with the worker, and the worker writes the slices
in their order.  The file is therefore byte for byte the same as that of one COPY,
and the worker hashes it on its way to the disk, as for any other export.  A lane
that is ahead of the others waits when its memory is full; so the size of a slice
is chosen to fit, from the bytes that the slices before it gave.

A lane that is told to stop, or whose worker is gone, cancels its statement and
ends; the next export starts a new one.
"""

import mmap
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from typing import Any

import psycopg
from psycopg import sql

from .lane import FULL, UNIT, UNITS, Setup, Slice, Sliced

WORTH_IT = 2048  # blocks of 8 KiB: a smaller table is copied by one stream
TARGET = UNIT * UNITS // 2  # bytes that a slice should give
FIRST = 64  # blocks of a slice before the bytes per block are known
FEWEST, MOST = 4, 8192  # blocks of a slice
AHEAD = 2  # slices that a lane has been ordered: it copies one, the next waits
LOOK_EVERY = 0.1  # seconds between looks at `stop`
PATIENCE = 2.0  # seconds for a lane to end by itself
# Not with -m: pickle must find the classes under the same module name on both sides.
RUN = f"from {__package__}.lane import main; main()"


class LaneLost(Exception):
    """A lane ended before its slice was complete."""


@dataclass(frozen=True)
class Extent:
    """A relation, as SQL names it, and its size in blocks."""

    relation: str
    blocks: int


class Lane:
    """A lane process, as its worker sees it, and the memory shared with it."""

    def __init__(self) -> None:
        self._orders, orders = Pipe()
        self._blocks, blocks = socket.socketpair()
        self._blocks.settimeout(LOOK_EVERY)
        self._heard = b""
        memory = os.memfd_create("lane")
        os.ftruncate(memory, UNIT * UNITS)
        self._memory = memoryview(mmap.mmap(memory, UNIT * UNITS))
        fds = (orders.fileno(), blocks.fileno(), memory)
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUN, *map(str, fds)],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
        )
        orders.close()
        blocks.close()
        os.close(memory)

    def order(self, what: Setup | Slice | None) -> None:
        try:
            self._orders.send(what)
        except OSError as error:
            raise self._loss() from error

    def slice(
        self, write: Callable[[memoryview], None], look: Callable[[], None]
    ) -> Sliced:
        """Pass the bytes of the lane's next slice to *write*; return its figures."""
        try:
            while True:
                index, length = self._full(look)
                if not length:
                    break
                at = index * UNIT
                write(self._memory[at : at + length])
                self._blocks.sendall(bytes((index,)))
            told = self._orders.recv()
        except (EOFError, ConnectionError) as error:
            look()
            raise self._loss() from error
        if isinstance(told, Exception):
            raise told
        assert isinstance(told, Sliced)
        return told

    def _full(self, look: Callable[[], None]) -> tuple[int, int]:
        """Wait for a full block; return its index and size.  Call *look* meanwhile."""
        while len(self._heard) < FULL.size:
            try:
                heard = self._blocks.recv(UNITS * FULL.size)
            except TimeoutError:
                look()
                continue
            if not heard:  # The lane has ended, and may have sent the reason.
                if self._orders.poll() and isinstance(
                    told := self._orders.recv(), Exception
                ):
                    raise told
                raise EOFError
            self._heard += heard
        index, length = FULL.unpack_from(self._heard)
        self._heard = self._heard[FULL.size :]
        return index, length

    def stop(self) -> None:
        """Make the lane cancel its statement and end; may be called from any thread."""
        self._process.terminate()

    def close(self) -> None:
        self.stop()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._orders.close()
        self._blocks.close()

    def _loss(self) -> LaneLost:
        return LaneLost(
            f"a lane process ended unexpectedly (status {self._process.poll()})"
        )


class Lanes:
    """The lanes of a worker: at most *size*, each lent to one export at a time."""

    def __init__(self, size: int) -> None:
        # Only Linux has anonymous shared memory, which needs no clean-up after a
        # crash; elsewhere there are no lanes.
        self._size = size if hasattr(os, "memfd_create") else 1
        self._free: list[Lane] = []
        self._lent = 0
        self._lock = threading.Lock()

    def take(self) -> list[Lane]:
        """Return all free lanes, or none if there is only one; start those missing."""
        with self._lock:
            count = self._size - self._lent
            if count < 2:
                return []
            taken = [self._free.pop() if self._free else Lane() for _ in range(count)]
            self._lent += count
            return taken

    def give(self, lanes: list[Lane], *, whole: bool) -> None:
        """Take *lanes* back; end them unless their copy is *whole*."""
        for lane in lanes:
            if not whole:
                lane.close()
        with self._lock:
            self._lent -= len(lanes)
            if whole:
                self._free += lanes

    def close(self) -> None:
        with self._lock:
            while self._free:
                self._free.pop().close()


def extents(
    conn: psycopg.Connection[Any], source: str, select: str
) -> list[Extent] | None:
    """Return the tables that *select* scans from beginning to end, in that order.

    Return None if its plan does anything else, such as using an index, or if
    the reader may read one of these tables only through *source*.
    """
    row = conn.execute(
        "select current_setting('max_parallel_workers_per_gather'),"
        " set_config('max_parallel_workers_per_gather', '0', true), pg_is_in_recovery()"
    ).fetchone()
    assert row
    if row[2]:
        return None  # a standby cannot export a snapshot to other sessions
    explain = f"explain (format json, verbose) {select}"
    ((plan,),) = conn.execute(explain.encode()).fetchall()
    conn.execute(
        "select set_config('max_parallel_workers_per_gather', %s, true)", [row[0]]
    )
    root = plan[0]["Plan"]
    scans = root["Plans"] if root["Node Type"] == "Append" else [root]
    if any(scan["Node Type"] != "Seq Scan" for scan in scans):
        return None
    found = []
    for scan in scans:
        name = sql.Identifier(scan["Schema"], scan["Relation Name"]).as_string(None)
        row = conn.execute(
            "select pg_relation_size(scanned) / current_setting('block_size')::int,"
            " scanned = source or not row_security_active(source)"
            " and has_table_privilege(scanned, 'select')"
            " from (values (%s::regclass::oid, %s::regclass::oid)) as _ (scanned, source)",
            [name, source],
        ).fetchone()
        assert row
        if not row[1]:
            return None
        found.append(Extent(name, row[0]))
    return found


class Cutter:
    """Cuts extents into slices that give about `TARGET` bytes each."""

    def __init__(self, whole: list[Extent]) -> None:
        self.blocks = sum(extent.blocks for extent in whole)
        self._whole = deque(whole)
        self._at = 0
        self._done = 0
        self._bytes = 0

    def cut(self) -> tuple[str, str, int] | None:
        """Return the next relation, the condition of its blocks, and their number."""
        if not self._whole:
            return None
        extent, first = self._whole[0], self._at
        size = FIRST
        if self._done:
            size = int(TARGET * self._done / max(self._bytes, 1))
        last = first + min(max(size, FEWEST), MOST)
        condition = f"t.ctid >= '({first},0)'"
        if last < extent.blocks:
            self._at = last
            condition += f" and t.ctid < '({last},0)'"
        else:  # The last slice has no upper limit: the table may have grown.
            last = extent.blocks
            self._whole.popleft()
            self._at = 0
        return extent.relation, condition, last - first

    def learn(self, blocks: int, size: int) -> None:
        self._done += blocks
        self._bytes += size

    @property
    def share(self) -> float:
        """Return the part of the blocks that has been copied, from 0 to 1."""
        return self._done / self.blocks if self.blocks else 1.0


def run(
    lanes: list[Lane],
    setup: Setup,
    cutter: Cutter,
    slice_of: Callable[[str, str, bool], Slice],
    write: Callable[[memoryview], None],
    look: Callable[[], None],
) -> Iterator[Sliced]:
    """Copy everything that *cutter* cuts; yield each slice once it is written.

    *slice_of* returns the order for a relation and a condition; its third
    argument is true for the first slice.
    """
    given: deque[tuple[Lane, int]] = deque()

    def give(lane: Lane, *, first: bool = False) -> None:
        if cut := cutter.cut():
            relation, condition, blocks = cut
            lane.order(slice_of(relation, condition, first))
            given.append((lane, blocks))

    for lane in lanes:
        lane.order(setup)
    for _ in range(AHEAD):
        for lane in lanes:
            give(lane, first=not given)
    while given:
        lane, blocks = given.popleft()
        sliced = lane.slice(write, look)
        cutter.learn(blocks, sliced.bytes)
        give(lane)
        yield sliced
    for lane in lanes:
        lane.order(None)
