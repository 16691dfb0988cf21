"""libpq's calls that wait, made so that each has a bound and can be given up.

psycopg's own wait inside libpq, with the interpreter lock held: a server that
says nothing would stop the whole process.
"""

import select
import time
from collections.abc import Callable

import psycopg
from psycopg import errors
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

LOOK_EVERY = 200  # milliseconds between calls of `look` while nothing arrives

Look = Callable[[], None]


def run(pgconn: PGconn, statements: bytes, patience: float, look: Look) -> PGresult:
    """Run *statements*; return the result of the first that fails, or of the last.

    As all here: *look* is called now and then, and may raise to give up; after
    *patience* seconds it raises `psycopg.OperationalError`.  Either way the
    connection is good for nothing more.
    """
    pgconn.send_query(statements)
    return _answer(pgconn, patience, look)


def prepare(pgconn: PGconn, statement: bytes, patience: float, look: Look) -> PGresult:
    """Prepare the statement without a name."""
    pgconn.send_prepare(b"", statement)
    return _answer(pgconn, patience, look)


def describe(pgconn: PGconn, patience: float, look: Look) -> PGresult:
    """Describe the statement without a name."""
    pgconn.send_describe_prepared(b"")
    return _answer(pgconn, patience, look)


def error_of(result: PGresult) -> psycopg.Error:
    """Return the error; one that the server did not send is of the connection."""
    if not result.error_field(DiagnosticField.SQLSTATE):
        return psycopg.OperationalError(result.get_error_message().strip())
    return errors.error_from_result(result)


def _answer(pgconn: PGconn, patience: float, look: Look) -> PGresult:
    until = time.monotonic() + patience
    poller = select.poll()

    def wait(events: int) -> None:
        poller.register(pgconn.socket, events)
        while not poller.poll(LOOK_EVERY):
            look()
            if time.monotonic() > until:
                raise psycopg.OperationalError(
                    f"the server has said nothing for {patience:g} seconds"
                )
        pgconn.consume_input()

    while pgconn.flush():
        wait(select.POLLIN | select.POLLOUT)
    answer: PGresult | None = None
    while True:
        while pgconn.is_busy():
            wait(select.POLLIN)
        result = pgconn.get_result()
        if result is None:
            assert answer
            return answer
        if answer is None or answer.status != ExecStatus.FATAL_ERROR:
            answer = result
