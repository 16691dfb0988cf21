"""Every error is `application/problem+json` (RFC 9457)."""

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus

import psycopg
from aiohttp import web
from aiohttp.typedefs import Handler
from psycopg import errors
from pydantic import ValidationError

log = logging.getLogger(__name__)


class Problem(Exception):
    """An answer that says what went wrong; *more* are the problem's own members."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **more: object,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        self.more = more

    def response(self) -> web.Response:
        members = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
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


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPException as error:
        return _of_http(request, error).response()
    except ValidationError as error:
        return _of_validation(error).response()
    except psycopg.Error as error:
        return _of_database(error).response()
    except Exception:
        log.exception("%s %s", request.method, request.path)
        return Problem(500, "This is our fault; it has been logged.").response()


def _of_http(request: web.Request, error: web.HTTPException) -> Problem:
    headers = {}
    match error.status:
        case 404:
            detail = f"There is nothing at {request.path}."
        case 405:
            headers["Allow"] = error.headers["Allow"]
            detail = f"{request.path} does not know {request.method}."
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
    malformed = error.errors()[0]["type"] == "json_invalid"
    return Problem(400 if malformed else 422, detail, errors=found)


def _of_database(error: psycopg.Error) -> Problem:
    code = error.sqlstate or ""
    if isinstance(error, errors.ConfigurationLimitExceeded):
        return Problem(
            429,
            error.diag.message_primary or str(error),
            headers={"Retry-After": "10"},
            hint=error.diag.message_hint,
        )
    # Too complex a statement is its author's; the rest of these are ours.
    away = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    if away and not code.startswith("54"):
        log.warning("database: %s", error)
        return Problem(
            503, "The database is not available.", headers={"Retry-After": "5"}
        )
    if isinstance(error, errors.CheckViolation) and error.diag.constraint_name:
        detail = error.diag.constraint_name.replace("_", " ")
    else:
        detail = error.diag.message_primary or str(error)
    return Problem(422, detail, sqlstate=error.sqlstate, hint=error.diag.message_hint)
