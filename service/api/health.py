"""Health checks: whether the process is alive, works, and is ready for requests."""

import psycopg
from aiohttp import web
from pydantic import ByteSize

from .keys import DRAINING, QUEUE, SETTINGS, STORAGE
from .problems import Problem

routes = web.RouteTableDef()


@routes.get("/health")
async def health(request: web.Request) -> web.Response:
    return await _health(request)


async def _health(request: web.Request) -> web.Response:
    try:
        await request.app[QUEUE].ping()
        free = request.app[STORAGE].free()
    except psycopg.Error as error:
        only_reads = isinstance(error, psycopg.errors.ReadOnlySqlTransaction)
        detail = "is read-only for now" if only_reads else "cannot be reached"
        raise Problem(
            "away", f"The database {detail}.", headers={"Retry-After": "5"}
        ) from None
    except OSError as error:
        return _degraded(f"The exports cannot be written: {error.strerror}.")
    if free < request.app[SETTINGS].min_free_disk:
        return _degraded(
            f"Nothing is claimed: the disk has {ByteSize(free).human_readable()} left."
        )
    return web.json_response({"status": "ok"})


@routes.get("/health/live")
async def live(request: web.Request) -> web.Response:
    """Answer that the process is alive, even if the database is not."""
    return web.json_response({"status": "ok"})


@routes.get("/health/ready")
async def ready(request: web.Request) -> web.Response:
    """Like `/health`, but 503 while the process drains."""
    if request.app[DRAINING].is_set():
        raise Problem(
            503,
            "The process is shutting down.",
            headers={"Retry-After": "5"},
        )
    return await _health(request)


def _degraded(detail: str) -> web.Response:
    """Answer 200, because the API still serves the finished files."""
    return web.json_response({"status": "degraded", "detail": detail})
