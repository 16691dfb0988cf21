"""How to connect, and how to stop waiting for a connection that went silent.

The kernel gives up hosts that have vanished (`DEFAULTS`); `bounded` severs
connections whose server says nothing.
"""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

DEFAULTS = {
    "client_encoding": "utf8",
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

AnyConnection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]


class DatabaseError(Exception):
    """The database cannot be used as it is; the text says what to do."""


def complete(conninfo: str) -> str:
    """Return *conninfo* with `DEFAULTS` for what it leaves open."""
    params: dict[str, Any] = {**DEFAULTS, **conninfo_to_dict(conninfo)}
    return make_conninfo(**params)


def primary(conninfo: str) -> str:
    """Return `complete`, which of several hosts takes the one that can be written to."""
    completed = complete(conninfo)
    params: dict[str, Any] = conninfo_to_dict(completed)
    if "," in f"{params.get('host', '')}{params.get('hostaddr', '')}":
        params.setdefault("target_session_attrs", "read-write")
    return make_conninfo(**params)


def sever(conn: AnyConnection) -> None:
    """Make whoever waits for *conn* fail now, though the network is silent.

    From any thread.  Neither closing nor cancelling would do: one takes the
    descriptor from under the waiter, the other asks the server.
    """
    with suppress(OSError, psycopg.OperationalError):
        with socket.socket(fileno=os.dup(conn.fileno())) as ours:
            ours.shutdown(socket.SHUT_RDWR)


@contextmanager
def bounded(conn: AnyConnection, seconds: float) -> Iterator[None]:
    """Sever *conn* if the block takes longer than that."""
    timer = asyncio.get_running_loop().call_later(seconds, sever, conn)
    try:
        yield
    finally:
        timer.cancel()
