"""Slices of a table, copied by several processes under one snapshot.

A slice is a range of a table's blocks.  Each lane copies every n-th of them
into memory that it shares with the worker, which writes them in their order: so
the file is, byte for byte, that of one COPY, and is hashed on its way to the
disk as any other.  A lane that is ahead waits while its memory is full; so a
slice is made about as large as will fit, by what the slices before it gave.

A lane that is told to stop, or whose worker is gone, cancels its statement and
ends; the next export gets a new one.
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

WORTH_IT = 2048  # blocks of 8 KiB: a smaller table takes one stream
TARGET = UNIT * UNITS // 2  # bytes that a slice should give
FIRST = 64  # blocks of the first slices, of which nothing is known
FEWEST, MOST = 4, 8192  # blocks of a slice
AHEAD = 2  # slices that a lane has been given, of which it copies one
LOOK_EVERY = 0.1  # seconds between looks at `stop`
PATIENCE = 2.0  # seconds for a lane to end by itself
# Not by -m: pickle has to find the same classes on both sides.
RUN = f"from {__package__}.lane import main; main()"


class LaneLost(Exception):
    """A lane ended before its slice did."""


@dataclass(frozen=True)
class Extent:
    """A relation, as SQL names it, and its size in blocks."""

    relation: str
    blocks: int


class Lane:
    """A process, and the memory that it fills."""

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
        """Write what the lane's next slice gives, and return what it was."""
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
        """Wait for a block; look now and then."""
        while len(self._heard) < FULL.size:
            try:
                heard = self._blocks.recv(UNITS * FULL.size)
            except TimeoutError:
                look()
                continue
            if not heard:  # It has ended, but it may have said why.
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
        """Have it cancel its statement and end; from any thread."""
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
        return LaneLost(f"a lane ended: {self._process.poll()}")


class Lanes:
    """The lanes of a worker: at most *size*, each lent to one export at a time."""

    def __init__(self, size: int) -> None:
        # Linux alone has memory without a name, which nobody has to remove.
        self._size = size if hasattr(os, "memfd_create") else 1
        self._free: list[Lane] = []
        self._lent = 0
        self._lock = threading.Lock()

    def take(self) -> list[Lane]:
        """Return all that are free, if there are several; they start when first needed."""
        with self._lock:
            count = self._size - self._lent
            if count < 2:
                return []
            taken = [self._free.pop() if self._free else Lane() for _ in range(count)]
            self._lent += count
            return taken

    def give(self, lanes: list[Lane], *, whole: bool) -> None:
        """Take them back; those that were stopped in between have to end."""
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
    """Return what *select* scans from one end to the other, in that order.

    None if it does anything else: uses an index, say, or reads what the reader
    may only see through *source*.
    """
    row = conn.execute(
        "select current_setting('max_parallel_workers_per_gather'),"
        " set_config('max_parallel_workers_per_gather', '0', true), pg_is_in_recovery()"
    ).fetchone()
    assert row
    if row[2]:
        return None  # on a standby no session can use the snapshot of another
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
        else:  # To the end, wherever that is by now.
            last = extent.blocks
            self._whole.popleft()
            self._at = 0
        return extent.relation, condition, last - first

    def learn(self, blocks: int, size: int) -> None:
        self._done += blocks
        self._bytes += size

    @property
    def share(self) -> float:
        """How much of the blocks has been copied, from 0 to 1."""
        return self._done / self.blocks if self.blocks else 1.0


def run(
    lanes: list[Lane],
    setup: Setup,
    cutter: Cutter,
    slice_of: Callable[[str, str, bool], Slice],
    write: Callable[[memoryview], None],
    look: Callable[[], None],
) -> Iterator[Sliced]:
    """Copy all that *cutter* cuts; yield each slice when it has been written.

    *slice_of* is asked for the slice of a relation and a condition, and told
    whether it is the first.
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
