"""Is this process alive, is it able to serve, and should it be sent more?"""

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
    except psycopg.Error:
        raise Problem(
            "away", "The database cannot be reached.", headers={"Retry-After": "5"}
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
    """Answer: so the process is alive, whatever the database does."""
    return web.json_response({"status": "ok"})


@routes.get("/health/ready")
async def ready(request: web.Request) -> web.Response:
    """As `/health`; but not ready while the process drains."""
    if request.app[DRAINING].is_set():
        raise Problem(
            503,
            "The process is shutting down.",
            headers={"Retry-After": "5"},
        )
    return await _health(request)


def _degraded(detail: str) -> web.Response:
    """Say so with 200: the API still serves what there is."""
    return web.json_response({"status": "degraded", "detail": detail})
