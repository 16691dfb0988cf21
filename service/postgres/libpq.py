"""libpq calls with a time limit, which the caller can abandon.

psycopg's own versions of these calls wait inside libpq and hold the interpreter
lock: a server that does not answer would stop the whole process.
"""

import select
import time
from collections.abc import Callable, Sequence

import psycopg
from psycopg import errors
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

LOOK_EVERY = 200  # milliseconds between calls of `look` while nothing arrives

Look = Callable[[], None]


def run(pgconn: PGconn, statements: bytes, patience: float, look: Look) -> PGresult:
    """Run *statements*; return the result of the last, or raise the first error.

    As in every function here, *look* is called now and then, and may raise to
    give up.  After *patience* seconds `psycopg.OperationalError` is raised.  In
    both cases the connection can no longer be used.
    """
    pgconn.send_query(statements)
    result = _answer(pgconn, patience, look)
    return _expect(result, ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


def query(
    pgconn: PGconn, statement: str, texts: list[str], patience: float, look: Look
) -> PGresult:
    """Run *statement* with *texts* as $1, $2 and so on; raise its error if it fails."""
    pgconn.send_query_params(statement.encode(), [text.encode() for text in texts])
    return _expect(_answer(pgconn, patience, look), ExecStatus.TUPLES_OK)


def run_each(
    pgconn: PGconn, statements: Sequence[bytes], patience: float, look: Look
) -> None:
    """Run each of *statements* separately, in one round trip; raise the first error."""
    pgconn.enter_pipeline_mode()
    for statement in statements:
        pgconn.send_query_params(statement, None)
        pgconn.pipeline_sync()
    failed = None
    for _ in statements:
        result = _answer(pgconn, patience, look)
        _answer(pgconn, patience, look, ends=ExecStatus.PIPELINE_SYNC)
        if result.status == ExecStatus.FATAL_ERROR:
            failed = failed or error_of(result)
    pgconn.exit_pipeline_mode()
    if failed:
        raise failed


def prepare(pgconn: PGconn, statement: bytes, patience: float, look: Look) -> PGresult:
    """Prepare and describe the unnamed *statement*, in one round trip.

    Return the description, or the error result if preparing failed.
    """
    pgconn.enter_pipeline_mode()
    pgconn.send_prepare(b"", statement)
    pgconn.send_describe_prepared(b"")
    pgconn.pipeline_sync()
    prepared = _answer(pgconn, patience, look)
    described = _answer(pgconn, patience, look)
    _answer(pgconn, patience, look, ends=ExecStatus.PIPELINE_SYNC)
    pgconn.exit_pipeline_mode()
    return described if prepared.status == ExecStatus.COMMAND_OK else prepared


def error_of(result: PGresult) -> psycopg.Error:
    """Return the error; one without an SQLSTATE is a failure of the connection."""
    if not result.error_field(DiagnosticField.SQLSTATE):
        return psycopg.OperationalError(result.get_error_message().strip())
    return errors.error_from_result(result)


def _expect(result: PGresult, *statuses: ExecStatus) -> PGresult:
    """Return *result* if it has one of the *statuses*, else raise its error."""
    if result.status not in statuses:
        raise error_of(result)
    return result


def _answer(
    pgconn: PGconn, patience: float, look: Look, ends: ExecStatus | None = None
) -> PGresult:
    """Return the result of one command, or the first result with the status *ends*.

    A command is over when libpq has no further result.  Of several results the
    first error counts, otherwise the last one.
    """
    until = time.monotonic() + patience
    poller = select.poll()

    def wait(events: int) -> None:
        poller.register(pgconn.socket, events)
        while not poller.poll(LOOK_EVERY):
            look()
            if time.monotonic() > until:
                raise psycopg.OperationalError(
                    f"the server has not answered for {patience:g} seconds"
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
        if result.status == ends:
            return result
        if answer is None or answer.status != ExecStatus.FATAL_ERROR:
            answer = result
