"""The pump reads a COPY with anything between the rows, and in pieces of any size."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors

from service.copying import pump
from service.postgres import reader

from .. import servers

Conn = psycopg.Connection[Any]

AWKWARD = (
    "select n, repeat('x', (n * 7919) % 900) as a, e'd\\td\\nd' as b"
    " from generate_series(1, 3000) n",
    "select n, case when n % 50 = 0 then repeat('wide ', n * 40) end"
    " from generate_series(1, 900) n",
    "select repeat('y', 17000000) as huge, n from generate_series(1, 2) n",
    "select repeat('d', n) as ds from generate_series(95, 110) n",  # lengths of "d"
    "select repeat('d', 25600 + n) as ds from generate_series(-3, 300) n",
    "select null::text as nothing, '' as empty from generate_series(1, 100000)",
    "select 1 as n where false",
)


class Encrypted:
    """A connection that claims to be encrypted."""

    ssl_in_use = True

    def __init__(self, pgconn: Any) -> None:
        self._pgconn = pgconn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pgconn, name)


def copied(
    pgconn: Any, select: str, command: bytes | None = None, **how: Any
) -> tuple[int, bytes]:
    got = bytearray()
    command = (
        command or f"copy (\n{select}\n) to stdout with (format csv, header)".encode()
    )
    rows = pump.pump(
        pgconn, command, got.extend, lambda *_: None, lambda: None, header=True, **how
    )
    return rows, bytes(got)


@pytest.mark.parametrize("select", AWKWARD, ids=range(len(AWKWARD)))
@pytest.mark.parametrize("how", [{}, {"crlf": True, "bom": True}])
def test_the_socket_gives_what_libpq_gives(
    conn: Conn, select: str, how: dict[str, Any]
) -> None:
    assert copied(conn.pgconn, select, **how) == copied(
        Encrypted(conn.pgconn), select, **how
    )
    assert conn.execute("select 1").fetchone() == (1,), "the connection is idle again"


@pytest.mark.newest
@pytest.mark.parametrize("block", [64, 1000, 4096])
def test_no_boundary_of_a_buffer_matters(
    conn: Conn, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    expected = copied(Encrypted(conn.pgconn), AWKWARD[0])
    monkeypatch.setattr(pump, "BLOCK", block)
    monkeypatch.setattr(pump, "ENOUGH", block // 2)
    assert copied(conn.pgconn, AWKWARD[0]) == expected


@pytest.mark.newest
def test_notices_between_rows_are_no_rows(conn: Conn) -> None:
    conn.execute(
        "create function noisy(n int) returns int language plpgsql as $$ begin"
        " raise notice 'd% and more', n; return n; end $$"
    )
    rows, content = copied(
        conn.pgconn, "select noisy(n) as n from generate_series(1, 5000) n"
    )
    assert rows == 5_000
    assert content == b"n\n" + b"".join(b"%d\n" % n for n in range(1, 5_001))


@pytest.mark.newest
def test_an_error_says_all_that_postgresql_does(conn: Conn) -> None:
    with pytest.raises(errors.DivisionByZero) as caught:
        copied(conn.pgconn, "select 1 / (n - 9000) from generate_series(1, 10000) n")
    assert caught.value.sqlstate == "22012"
    assert conn.execute("select 1").fetchone() == (1,)
    with pytest.raises(errors.UndefinedColumn) as caught2:
        copied(conn.pgconn, "select nam from users")
    assert "users.name" in (caught2.value.diag.message_hint or "")
    with pytest.raises(errors.SyntaxError):
        copied(conn.pgconn, "select 1) to stdout; drop table users; copy (select 1")


@pytest.mark.newest
@pytest.mark.parametrize("seen_as", [lambda pgconn: pgconn, Encrypted])
def test_a_statement_that_is_no_copy_is_told_apart(
    database: str, seen_as: Callable[[Any], Any]
) -> None:
    with closing(psycopg.connect(database)) as conn:
        with pytest.raises(pump.UnexpectedResult):
            copied(seen_as(conn.pgconn), "select 1", command=b"select 1")


@pytest.mark.newest
def test_a_descriptor_wakes_it(conn: Conn) -> None:
    """It wakes up at once, although nothing comes from the server."""

    class Woken(Exception):
        pass

    ours, theirs = socket.socketpair()

    def look() -> None:
        ours.setblocking(False)
        try:
            ours.recv(1)
        except BlockingIOError:
            return
        raise Woken

    threading.Timer(0.1, theirs.send, [b"x"]).start()
    command = b"copy (select pg_sleep(20)) to stdout"
    with pytest.raises(Woken):
        pump.pump(
            conn.pgconn, command, bytearray().extend, lambda *_: None, look,
            wake=ours.fileno(),
        )  # fmt: skip
    conn.cancel_safe()
    ours.close()
    theirs.close()


@pytest.fixture
def encrypted(scratch: Path) -> Iterator[str]:
    with servers.encrypted(scratch / "tls") as (_, conninfo):
        yield conninfo


@pytest.mark.newest
def test_an_encrypted_connection_gives_the_same(conn: Conn, encrypted: str) -> None:
    sources = reader.Sessions(encrypted, 1)
    for _ in range(2):
        source = sources.begin("export")
        assert source.conn.pgconn.ssl_in_use
        assert copied(source.conn.pgconn, AWKWARD[0]) == copied(conn.pgconn, AWKWARD[0])
        sources.end(source, reuse=True)
    assert source.uses == 2
    sources.close()
