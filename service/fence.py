"""Is this text one harmless SELECT?

The text is prepared *alone*, so that nothing in it can close a parenthesis of
ours, and PostgreSQL's own parser says how many statements, parameters and
columns it has.  That it only reads is the business of the role that runs it,
of its READ ONLY transaction, and of COPY, whose parentheses admit no utility
statement.
"""

from psycopg import errors
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult


class NotASelect(Exception):
    """The text is no SELECT that can be exported; the message says why."""


def check(pgconn: PGconn, sql: str) -> None:
    """Raise `psycopg.Error` or `NotASelect` unless *sql* may be put into a COPY."""
    expect(pgconn.prepare(b"", sql.encode()), ExecStatus.COMMAND_OK)
    described = expect(pgconn.describe_prepared(b""), ExecStatus.COMMAND_OK)
    if described.nparams:
        raise NotASelect(
            "an export takes no parameters; write the values into the query"
        )
    if not described.nfields:
        raise NotASelect("an export is a SELECT with at least one column")


def copy_command(sql: str) -> bytes:
    """Return the COPY of a checked SELECT, to be sent as one extended query.

    The line breaks keep a comment at the end of *sql* from hiding ours.
    """
    return f"COPY (\n{sql}\n) TO STDOUT WITH (FORMAT csv, HEADER)".encode()


def expect(result: PGresult, status: ExecStatus) -> PGresult:
    """Return *result* if it has *status*, else raise its `psycopg.Error`."""
    if result.status == ExecStatus.FATAL_ERROR:
        raise errors.error_from_result(result)
    if result.status != status:
        raise NotASelect(
            f"an export is a SELECT, but this is {ExecStatus(result.status).name}"
        )
    return result
