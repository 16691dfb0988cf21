"""Is this process able to serve?"""

import psycopg
from aiohttp import web
from pydantic import ByteSize

from .keys import QUEUE, SETTINGS, STORAGE
from .problems import Problem

routes = web.RouteTableDef()


@routes.get("/health")
async def health(request: web.Request) -> web.Response:
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


def _degraded(detail: str) -> web.Response:
    """Say so with 200: the API still serves what there is."""
    return web.json_response({"status": "degraded", "detail": detail})
