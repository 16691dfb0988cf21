"""The pump reads any stream of messages, of any length and with cuts at any place.

It is compared with a reader that takes one message after the other.
"""

import random
import socket
import struct
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.copying import pump


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


NOTICE = message(b"N", b"SNOTICE\0C00000\0Mthe d\0\0")
STATUS = message(b"S", b"TimeZone\0UTC\0")
OUT = message(b"H", b"\0\0\1\0\0")


def received(stream: bytes, cuts: list[int]) -> tuple[int, bytes, int]:
    """Send *stream* in pieces that end at *cuts*; return rows, bytes, and the tag."""
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    def send() -> None:
        begin = 0
        for end in [*sorted(cuts), len(stream)]:
            if end > begin:
                theirs.sendall(stream[begin:end])
                begin = end
        while theirs.recv(1 << 16):  # the command, until we hang up
            pass

    sender = threading.Thread(target=send)
    sender.start()
    pgconn: Any = SimpleNamespace(socket=ours.fileno())
    wire = pump._Wire(pgconn, b"copy", b"".join, lambda: _readable(ours))
    rows, parts = 0, []
    try:
        for count, block in wire:
            rows += count
            parts.append(block)
    finally:
        ours.shutdown(socket.SHUT_RDWR)
        ours.close()
        sender.join(10)
        theirs.close()
    return rows, b"".join(parts), wire.sent


def _readable(sock: socket.socket) -> None:
    import select

    select.select([sock], [], [], 10)


def streamed(bodies: list[bytes], between: dict[int, bytes]) -> bytes:
    parts = [OUT]
    for n, body in enumerate(bodies):
        parts += [between.get(n, b""), message(b"d", body)]
    parts += [message(b"c", b""), message(b"C", b"COPY %d\0" % len(bodies))]
    return b"".join(parts) + message(b"Z", b"I")


row = st.binary(max_size=600).map(lambda row: row.replace(b"\0", b"d"))
others = st.sampled_from([NOTICE, STATUS, NOTICE + STATUS])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    bodies=st.lists(row, max_size=60),
    between=st.dictionaries(st.integers(0, 60), others, max_size=3),
    cuts=st.lists(st.integers(0, 40_000), max_size=40),
)
def test_small_messages(
    bodies: list[bytes], between: dict[int, bytes], cuts: list[int]
) -> None:
    stream = streamed(bodies, between)
    expected = len(bodies), b"".join(bodies), len(bodies)
    assert received(stream, [cut for cut in cuts if cut < len(stream)]) == expected


def test_every_boundary() -> None:
    bodies = [b"a\n", b"", b"dd\n", b"d" * 96 + b"\n", b"x" * 251 + b"\n"]
    stream = streamed(bodies, {2: NOTICE, 4: STATUS})
    for cut in range(len(stream)):
        rows, body, sent = received(stream, [cut])
        assert (rows, body, sent) == (5, b"".join(bodies), 5), cut


@pytest.mark.parametrize(
    "size",
    [  # the length of the message contains "d" and a NUL at each possible place
        0x01640000, 0x01640064, 0x01646400, 0x01016400, 0x01646464,
        0x01000000, 0x00FFFFFF, 0x01000064, 0x01FE6400,
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", [0, 1, 20_000])
def test_huge_messages(size: int, before: int) -> None:
    random.seed(size + before)
    small = [b"%d,row\n" % n for n in range(before)]
    huge = b"d" * (size - 4)
    bodies = [*small, huge, b"after\n", *small, huge, b"d\n"]
    stream = streamed(bodies, {len(small) + 1: NOTICE})
    begin = stream.index(message(b"d", huge)[:5] + b"dddd")
    cuts = [begin + n for n in range(7)] + [random.randrange(len(stream))]
    rows, body, sent = received(stream, cuts[:: random.choice([1, 2, 8])])
    assert (rows, sent) == (len(bodies), len(bodies))
    assert body == b"".join(bodies)


def test_a_huge_notice() -> None:
    notice = message(b"N", b"SNOTICE\0Md" + b"d" * 0x01640100 + b"\0\0")
    bodies = [b"a\n"] * 300
    expected = 300, b"a\n" * 300, 300
    assert received(streamed(bodies, {150: notice}), []) == expected
