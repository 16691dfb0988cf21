"""A lane: a process that copies slices for a worker; see `lanes`.

It receives orders through a pipe, and writes the bytes of the slices into blocks
of memory that it shares with the worker.  Through a pair of sockets, the lane
reports which blocks are full, and the worker which are free again.  A lane
imports little, so that it starts fast and stays small.  It ends when the worker
does.
"""

import mmap
import os
import signal
import socket
import struct
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

import psycopg

from .compression import compressor
from .encoding import recoder
from .pump import pump

UNIT = 128 * 1024  # bytes of a block of shared memory
UNITS = 16  # blocks of a lane, so that a slice fits
# The lane's message: the index of a full block, and the number of bytes in it.
# With 0 bytes it is the end of a slice.
FULL = struct.Struct("=II")
CANCEL_PATIENCE = 1.0  # seconds for the server to take a cancel


@dataclass(frozen=True)
class Setup:
    """An order to connect and run *begin*, which opens a transaction."""

    conninfo: str
    begin: bytes
    compression: Literal["none", "gzip", "zstd"]
    encoding: str
    crlf: bool


@dataclass(frozen=True)
class Slice:
    """An order to run *command*, a COPY."""

    command: bytes
    header: bool = False
    bom: bool = False


@dataclass(frozen=True)
class Sliced:
    """The answer when a slice is complete and all its blocks have been passed on."""

    rows: int
    bytes: int


class _Lane:
    def __init__(
        self, orders: Connection, blocks: socket.socket, memory: mmap.mmap
    ) -> None:
        self._orders = orders
        self._blocks = blocks
        self._memory = memoryview(memory)
        self._free = deque(range(UNITS))
        self._used = 0  # bytes in the first free block
        self._conn: psycopg.Connection[Any] | None = None

    def serve(self) -> None:
        """Carry out orders until the worker is gone; then `EOFError` is raised."""
        setup: Setup | None = None
        while True:
            match order := self._orders.recv():
                case Setup():
                    setup = order
                    self._conn = psycopg.connect(order.conninfo, autocommit=True)
                    cursor = self._conn.execute(order.begin)
                    while cursor.nextset():
                        pass
                case Slice():
                    assert setup
                    sliced = self._copy(order, setup)
                    self._blocks.sendall(FULL.pack(0, 0))
                    self._orders.send(sliced)
                case None:
                    assert self._conn
                    self._conn.close()
                    self._conn = None

    def cancel(self) -> None:
        """Have the server cancel our statement."""
        if self._conn is not None:
            with suppress(psycopg.Error):
                self._conn.cancel_safe(timeout=CANCEL_PATIENCE)

    def _hear(self, *, wait: bool = False) -> None:
        """Learn which blocks are free again; raise `EOFError` if the worker is gone."""
        try:
            freed = self._blocks.recv(UNITS, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not freed:
            raise EOFError
        self._free += freed

    def _copy(self, order: Slice, setup: Setup) -> Sliced:
        assert self._conn
        size = 0

        def count(_rows: int, so_far: int) -> None:
            nonlocal size
            size = so_far

        recode = recoder(setup.encoding)
        compress = compressor(setup.compression)

        def write(block: bytes) -> None:
            if recode:
                block = recode(block)
            self._put(compress.compress(block) if compress else block)

        rows = pump(
            self._conn.pgconn,
            order.command,
            write,
            count,
            self._hear,
            header=order.header,
            bom=order.bom,
            crlf=setup.crlf,
            wake=self._blocks.fileno(),
        )
        if compress:
            self._put(compress.flush())
        self._pass_on()
        return Sliced(rows, size)

    def _put(self, data: bytes) -> None:
        """Write *data* into free blocks, and pass on each block that is full."""
        rest = memoryview(data)
        while rest:
            while not self._free:
                self._hear(wait=True)
            piece = rest[: UNIT - self._used]
            at = self._free[0] * UNIT + self._used
            self._memory[at : at + len(piece)] = piece
            self._used += len(piece)
            rest = rest[len(piece) :]
            if self._used == UNIT:
                self._pass_on()

    def _pass_on(self) -> None:
        if self._used:
            self._blocks.sendall(FULL.pack(self._free.popleft(), self._used))
            self._used = 0


def main() -> None:
    # Ctrl-C in a terminal reaches us too, but only the worker must react to it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders, blocks, memory = map(int, sys.argv[1:])
    answers = Connection(orders)
    lane = _Lane(answers, socket.socket(fileno=blocks), mmap.mmap(memory, UNIT * UNITS))

    def end(*_: object) -> None:
        lane.cancel()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    try:
        lane.serve()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        end()  # the worker is gone
    except Exception as error:
        with suppress(OSError):
            answers.send(error)
