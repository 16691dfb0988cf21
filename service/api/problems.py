"""Answer every error as `application/problem+json` (RFC 9457)."""

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus

import psycopg
from aiohttp import web
from aiohttp.typedefs import Handler
from psycopg import errors
from pydantic import ValidationError
from pydantic.alias_generators import to_camel

log = logging.getLogger(__name__)

# Problems that a program may want to distinguish.  All others are about:blank: their
# HTTP status says enough.
TYPES = {
    "malformed": (400, "The body is not JSON"),
    "invalid": (422, "Invalid request"),
    "refused": (422, "PostgreSQL refuses the export"),
    "missing-scope": (403, "The key may not do this"),
    "key-reused": (422, "The Idempotency-Key belongs to another request"),
    "not-ended": (409, "The export has not ended yet"),
    "ended": (409, "The export has ended already"),
    "no-file": (409, "The export has ended without a file"),
    "locked": (409, "A relation is locked"),
    "slow-plan": (422, "Planning the query takes too long"),
    "slow-preview": (422, "The preview takes too long"),
    "expired": (410, "The file is no longer kept"),
    "too-many": (429, "Too many exports are waiting"),
    "quota-exceeded": (429, "A limit of the requester is reached"),
    "away": (503, "The database is not available"),
}

# SQLSTATEs of failures on our side: connection, read-only server, rollback, resources,
# operator, system.
OURS = ("08", "25006", "40", "53", "57", "58")


class Problem(Exception):
    """An error answer: one of `TYPES`, or only an HTTP status.

    *more* are additional members of its JSON.
    """

    def __init__(
        self,
        what: str | int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **more: object,
    ) -> None:
        super().__init__(detail)
        if isinstance(what, str):
            self.type = type_uri(what)
            self.status, self.title = TYPES[what]
        else:
            self.type = "about:blank"
            self.status, self.title = what, HTTPStatus(what).phrase
        self.headers = dict(headers or {})
        self.more = more

    def response(self) -> web.Response:
        members = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": str(self),
        }
        members |= {
            name: value for name, value in self.more.items() if value is not None
        }
        return web.Response(
            status=self.status,
            headers=self.headers,
            body=json.dumps(members).encode(),
            content_type="application/problem+json",
        )


def type_uri(name: str) -> str:
    """Return the URI of a problem type, at which the documentation explains it."""
    return f"/docs#{name}"


@contextmanager
def refusing() -> Iterator[None]:
    """Turn a `ValidationError` in the block into a problem for the client."""
    try:
        yield
    except ValidationError as error:
        raise _of_validation(error) from None


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            # A few compressed bytes could expand to any number.
            raise Problem(
                415,
                "Send the body without Content-Encoding.",
                headers={"Accept-Encoding": "identity"},
            )
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPException as error:
        return _of_http(request, error).response()
    except psycopg.Error as error:
        return of_database(error).response()
    except Exception:
        log.exception("%s %s", request.method, _path_without_secret(request))
        return Problem(500, "Internal error; it has been logged.").response()


def _path_without_secret(request: web.Request) -> str:
    token = request.match_info.get("token")  # of a link
    return request.path.replace(token, "…") if token else request.path


def _of_http(request: web.Request, error: web.HTTPException) -> Problem:
    headers = {}
    match error.status:
        case 404:
            detail = f"There is nothing at {request.path}."
        case 405:
            headers["Allow"] = error.headers["Allow"]
            detail = f"{request.path} does not support {request.method}."
        case 413:
            detail = f"The body is larger than {request.client_max_size} bytes."
        case _:
            detail = error.text or error.reason
    return Problem(error.status, detail, headers=headers)


def _of_validation(error: ValidationError) -> Problem:
    found = [
        {"at": "/".join(map(str, one["loc"])), "detail": one["msg"]}
        for one in error.errors(
            include_url=False, include_input=False, include_context=False
        )
    ]
    first = found[0]
    detail = (
        f"{first['at']}: {first['detail']}" if first["at"] else str(first["detail"])
    )
    return Problem("invalid", detail, errors=found)


@contextmanager
def refused(query: str | None) -> Iterator[None]:
    """Turn PostgreSQL's error in the block into a problem, with its place in *query*."""
    try:
        yield
    except errors.QueryCanceled:
        raise Problem(
            "slow-plan",
            "PostgreSQL takes longer than SUBMIT_TIMEOUT to plan the query.",
            hint="Simplify the query, or ask an operator to raise SUBMIT_TIMEOUT.",
        ) from None
    except psycopg.Error as error:
        problem = of_database(error)
        problem.more |= _place(error, query or "")
        raise problem from error


def _place(error: psycopg.Error, query: str) -> dict[str, int]:
    """Return the position, line and column of the error in *query*, counted from 1.

    The result is empty if PostgreSQL does not report them.
    """
    diag = error.diag
    # explain_as_reader puts one or two lines of its own before the query.
    text = re.sub(r"^\s*;[;\s]*", "", query)
    rest = diag.internal_query or ""
    begins = 0
    for _ in range(2):
        _, _, rest = rest.partition("\n")
        begins = len(diag.internal_query or "") - len(rest)
        rest = rest.removesuffix("\n) as export (a)")
        if rest and text.startswith(rest):
            break
    else:
        return {}
    if diag.internal_position is None:
        return {}
    position = int(diag.internal_position) - begins + len(query) - len(text)
    if not 1 <= position <= len(query) + 1:
        return {}
    before = query[: position - 1]
    return {
        "position": position,
        "line": before.count("\n") + 1,
        "column": len(before) - (before.rfind("\n") + 1) + 1,
    }


def _until_midnight() -> int:
    """Return the seconds that are left of this day of UTC."""
    return 86_400 - int(time.time()) % 86_400


def of_database(error: psycopg.Error) -> Problem:
    """Return the problem that an error of the queue's database is to the client."""
    code = error.sqlstate or ""
    if isinstance(error, errors.LockNotAvailable):
        return Problem(
            "locked",
            error.diag.message_primary or str(error),
            headers={"Retry-After": "5"},
            hint=error.diag.message_hint,
        )
    if isinstance(error, errors.ConfigurationLimitExceeded):
        limit = error.diag.column_name  # of the requester; see check_limits
        seconds = _until_midnight() if limit == "max_bytes_a_day" else 10
        return Problem(
            "quota-exceeded" if limit else "too-many",
            error.diag.message_primary or str(error),
            headers={"Retry-After": str(seconds)},
            hint=error.diag.message_hint,
            limit=limit and to_camel(limit),
        )
    lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    if code.startswith(OURS) or lost and not code:
        log.warning("database: %s", error)
        return Problem("away", "Try again in a moment.", headers={"Retry-After": "5"})
    if isinstance(error, errors.CheckViolation) and error.diag.constraint_name:
        detail = error.diag.constraint_name.replace("_", " ")
    else:
        detail = error.diag.message_primary or str(error)
    return Problem(
        "refused", detail, sqlstate=error.sqlstate, hint=error.diag.message_hint
    )
