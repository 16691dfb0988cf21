"""Connect to PostgreSQL, and stop waiting when a connection goes silent.

With `DEFAULTS`, the kernel detects hosts that have vanished.  `bounded` severs
a connection whose server is reachable but does not answer.
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
    """The database is not ready for use; the message says what to do."""


def complete(conninfo: str) -> str:
    """Return *conninfo* with `DEFAULTS` for every parameter that it does not set."""
    params: dict[str, Any] = {**DEFAULTS, **conninfo_to_dict(conninfo)}
    return make_conninfo(**params)


def primary(conninfo: str) -> str:
    """Return `complete(conninfo)`; of several hosts, it connects to the writable one."""
    completed = complete(conninfo)
    params: dict[str, Any] = conninfo_to_dict(completed)
    if "," in f"{params.get('host', '')}{params.get('hostaddr', '')}":
        params.setdefault("target_session_attrs", "read-write")
    return make_conninfo(**params)


def sever(conn: AnyConnection) -> None:
    """Make a wait on *conn* fail now, even if the network is silent.

    May be called from any thread.  Closing would take the descriptor away from
    the code that waits on it, and cancelling needs an answer from the server.
    """
    with suppress(OSError, psycopg.OperationalError):
        with socket.socket(fileno=os.dup(conn.fileno())) as ours:
            ours.shutdown(socket.SHUT_RDWR)


@contextmanager
def bounded(conn: AnyConnection, seconds: float) -> Iterator[None]:
    """Sever *conn* if the block takes longer than *seconds*."""
    timer = asyncio.get_running_loop().call_later(seconds, sever, conn)
    try:
        yield
    finally:
        timer.cancel()
