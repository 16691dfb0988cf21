"""The pump: read the rows of one COPY from the socket into blocks of bytes.

Over a plain connection the pump speaks PostgreSQL's protocol itself, on the socket
of an idle libpq connection, and leaves that connection idle: libpq would allocate,
copy and hand over every row separately.

Many rows are separated at once.  Between two rows is the header of a message; if
the message has less than 16 MB, the header is "d", a NUL and three more bytes of
the length.  The buffer is split at these headers.  CSV contains no NUL.  So a NUL
in a row means that some other message is between the rows, or that a split was
wrong.  One kind of wrong split leaves no NUL: the length of a message of 16 MB or
more may itself contain "d" and a NUL.  The buffer is smaller than such a message,
so this message is the last one in it, and the split within its header is the last
split.  That split makes the row before it longer than the header of that row says,
which is checked.  A buffer in doubt is read message by message.  A row that is
larger than the buffer is passed on in pieces.

Over TLS the bytes on the socket are encrypted, so libpq reads them, in its
non-blocking mode: the blocking call, `get_copy_data(0)`, would wait with the
interpreter lock held.

psycopg's own `cursor.copy` is several times slower than both ways.
"""

import os
import re
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence

import psycopg
from psycopg import errors
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from ..postgres import libpq

BLOCK = 128 * 1024  # bytes of the buffer, whose rows are separated together
ENOUGH = BLOCK // 2  # bytes that are passed on without waiting for more
NAP = 0.0002  # seconds to wait for more: fewer wake-ups here and in the server
LOOK_EVERY = 500  # milliseconds between calls of `look` while nothing arrives
SEND_PATIENCE = 30.0  # seconds for the server to take the command
ROW = ord("d")  # the type of a CopyData message
HUGE = 1 << 24  # bytes: the length of such a message does not begin with a NUL
BOM = b"\xef\xbb\xbf"

split = re.compile(rb"d\0[\s\S]{3}").split  # at the headers of CopyData messages
Join = Callable[[Sequence[bytes | memoryview]], bytes]


class RowsMissing(Exception):
    """The number of rows that arrived is not the number that PostgreSQL reports."""


class UnexpectedResult(Exception):
    """The statement is not a COPY TO STDOUT."""


def pump(
    pgconn: PGconn,
    command: bytes,
    write: Callable[[bytes], None],
    count: Callable[[int, int], None],
    look: Callable[[], None],
    *,
    header: bool = False,
    bom: bool = False,
    crlf: bool = False,
    wake: int | None = None,
) -> int:
    """Run *command*, a COPY TO STDOUT of text, and pass its bytes to *write*.

    Returns the number of rows; the bytes are complete if, and only if, it returns.
    Before each write, *count* is called with the rows and bytes so far.  *look* is
    called now and then, and whenever the descriptor *wake* is readable.  Both may
    raise to end the copy; the connection can then no longer be used.
    """
    poller = select.poll()
    poller.register(pgconn.socket, select.POLLIN)
    if wake is not None:
        poller.register(wake, select.POLLIN)

    def wait() -> None:
        while not any(fd == pgconn.socket for fd, _ in poller.poll(LOOK_EVERY)):
            look()

    look()
    join = _join_crlf if crlf else b"".join
    kind: type[_Rows] = _Libpq if pgconn.ssl_in_use else _Wire
    arriving = kind(pgconn, command, join, wait)
    if bom:
        write(BOM)
    rows = -1 if header else 0  # the header line arrives as a row
    size = len(BOM) if bom else 0
    for more, block in arriving:
        rows += more
        size += len(block)
        count(max(rows, 0), size)
        write(block)
        look()
    if arriving.sent != rows:
        raise RowsMissing(f"{rows} rows arrived, but {arriving.sent} were sent")
    return rows


def _join_crlf(rows: Sequence[bytes | memoryview]) -> bytes:
    return b"".join([bytes(row[:-1]) + b"\r\n" for row in rows])


class _Rows:
    """The rows of *command*; iterate to get pairs of a number of rows and their bytes.

    After the iteration, `sent` is the number of rows that PostgreSQL reports.
    """

    def __init__(
        self, pgconn: PGconn, command: bytes, join: Join, wait: Callable[[], None]
    ) -> None:
        self._pgconn = pgconn
        self._command = command
        self._join = join
        self._wait = wait
        self.sent = -1

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        raise NotImplementedError


class _Wire(_Rows):
    """Read the socket ourselves; the connection is not encrypted."""

    def __init__(
        self, pgconn: PGconn, command: bytes, join: Join, wait: Callable[[], None]
    ) -> None:
        super().__init__(pgconn, command, join, wait)
        self._buffer = bytearray(BLOCK)
        self._filled = 0
        self._copying = False
        self._ready = False  # ReadyForQuery, the last message, has been read
        self._error: psycopg.Error | None = None

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        with socket.socket(fileno=os.dup(self._pgconn.socket)) as sock:
            sock.settimeout(SEND_PATIENCE)
            sock.sendall(_query(self._command))
            sock.settimeout(0)
            while not self._ready:
                before = self._filled
                if taken := self._many() or self._each():
                    yield taken
                elif self._is_long():
                    yield from self._long(sock)
                elif self._filled == before:
                    self._receive(sock)
        if self._error:
            raise self._error
        if not self._copying:
            raise UnexpectedResult("the statement is not a COPY TO STDOUT")

    def _receive(self, sock: socket.socket) -> None:
        """Wait until more bytes arrive, and then for a moment until they are enough."""
        free = memoryview(self._buffer)
        before = self._filled
        napped = False
        while self._filled < ENOUGH or self._filled == before:
            try:
                got = sock.recv_into(free[self._filled :])
            except BlockingIOError:
                if self._filled == before:
                    self._wait()
                elif napped:
                    return
                time.sleep(NAP)
                napped = True
                continue
            except ConnectionError:
                got = 0
            napped = False
            if not got and self._filled > before:
                return  # the bytes that came last may hold the server's reason
            if not got:
                raise self._error or psycopg.OperationalError(
                    "the server closed the connection unexpectedly"
                )
            self._filled += got

    def _many(self) -> tuple[int, bytes] | None:
        """Take all complete rows, if the buffer contains only rows."""
        data = memoryview(self._buffer)[: self._filled]
        if bytes(data[:2]) != b"d\0" or not 5 <= self._filled < HUGE:
            return None
        rows = split(data)
        last = rows.pop()
        start = self._filled - len(last) - 5
        if len(rows) > 1:  # the row before must end where the last one begins
            before = len(rows[-1]) + 5
            if self._size(start - before) != before:
                return None
        size = self._size(start) - 5
        rest = start
        if len(last) >= size:
            rows.append(last[:size])
            rest = start + 5 + size
        block = self._join(rows[1:])
        if not block or b"\0" in block:  # a notice, or an error, is in between
            return None
        self._drop(rest)
        return len(rows) - 1, block

    def _each(self) -> tuple[int, bytes] | None:
        """Read the buffer message by message; take the rows among the messages."""
        rows = []
        at = 0
        data = memoryview(self._buffer)
        while at + 5 <= self._filled and at + self._size(at) <= self._filled:
            end = at + self._size(at)
            body = bytes(data[at + 5 : end])
            match data[at : at + 1]:
                case b"d":
                    rows.append(body)
                case b"H":
                    self._copying = True
                case b"C":
                    self.sent = int(body.rstrip(b"\0").rpartition(b" ")[2])
                case b"E":
                    self._error = _error(body)
                case b"Z":
                    self._ready = True
            at = end
        data.release()
        self._drop(at)
        needed = self._size(0) if self._filled >= 5 else 0
        if needed > len(self._buffer) and not self._is_long():
            self._buffer += bytes(needed - len(self._buffer))
        elif at and len(self._buffer) > BLOCK >= max(needed, self._filled):
            # A huge message enlarged the buffer: give the memory back.
            del self._buffer[BLOCK:]
        return (len(rows), self._join(rows)) if rows else None

    def _is_long(self) -> bool:
        """Return whether the buffer begins with a row of more than `BLOCK` bytes."""
        return self._filled >= 5 and self._buffer[0] == ROW and self._size(0) > BLOCK

    def _long(self, sock: socket.socket) -> Iterator[tuple[int, bytes]]:
        """Yield that row in pieces, so that a large row does not need much memory."""
        left = self._size(0) - 5
        self._drop(5)
        while left > self._filled:
            if self._filled:
                left -= self._filled
                yield 0, bytes(self._buffer[: self._filled])
                self._drop(self._filled)
            self._receive(sock)
        piece = bytes(self._buffer[:left])
        self._drop(left)
        yield 1, self._join([piece])

    def _size(self, at: int) -> int:
        """Return the size of the message that begins at *at*."""
        return 1 + int.from_bytes(self._buffer[at + 1 : at + 5], "big")

    def _drop(self, taken: int) -> None:
        rest = self._buffer[taken : self._filled]
        self._filled = len(rest)
        self._buffer[: self._filled] = rest


def _query(command: bytes) -> bytes:
    """Return the messages of an extended query, which accepts only one statement."""
    parse = b"\0" + command + b"\0" + struct.pack("!H", 0)
    bind = b"\0\0" + struct.pack("!HHH", 0, 0, 0)
    execute = b"\0" + struct.pack("!I", 0)
    messages = ((b"P", parse), (b"B", bind), (b"E", execute), (b"S", b""))
    return b"".join(
        kind + struct.pack("!I", len(body) + 4) + body for kind, body in messages
    )


def _error(body: bytes) -> psycopg.Error:
    """Return the exception that psycopg would raise for the ErrorResponse *body*."""
    fields = {field[0]: field[1:] for field in body.split(b"\0") if field}
    state = fields.get(DiagnosticField.SQLSTATE, b"").decode()
    message = fields.get(DiagnosticField.MESSAGE_PRIMARY, b"").decode(errors="replace")
    try:
        kind = errors.lookup(state)
    except KeyError:
        kind = psycopg.DatabaseError
    return kind(message, info={**fields})


class _Libpq(_Rows):
    """Have libpq read the socket; the connection is encrypted."""

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        pgconn = self._pgconn
        pgconn.send_query_params(self._command, None)
        pgconn.flush()
        while pgconn.is_busy():
            self._await_input()
        _expect(pgconn.get_result(), ExecStatus.COPY_OUT)
        get = pgconn.get_copy_data
        rows: list[memoryview] = []
        gathered = 0
        while True:
            size, row = get(1)
            if size > 0:
                rows.append(row)
                gathered += size
                if gathered < ENOUGH:
                    continue
            if rows:
                yield len(rows), self._join(rows)
                rows, gathered = [], 0
            if size == 0:
                self._await_input()
            elif size < 0:
                break
        ended = _expect(pgconn.get_result(), ExecStatus.COMMAND_OK)
        self.sent = ended.command_tuples or 0
        while pgconn.get_result():
            pass

    def _await_input(self) -> None:
        self._wait()
        self._pgconn.consume_input()


def _expect(result: PGresult | None, status: ExecStatus) -> PGresult:
    assert result
    if result.status == ExecStatus.FATAL_ERROR:
        raise libpq.error_of(result)
    if result.status != status:
        raise UnexpectedResult("the statement is not a COPY TO STDOUT")
    return result
