"""Is this process able to serve?"""

import asyncio

import psycopg
from aiohttp import web

from .keys import QUEUE
from .problems import Problem

routes = web.RouteTableDef()

PATIENCE = 2.0  # seconds


@routes.get("/health")
async def health(request: web.Request) -> web.Response:
    try:
        async with asyncio.timeout(PATIENCE):
            await request.app[QUEUE].ping()
    except (psycopg.Error, TimeoutError):
        raise Problem(
            503, "The database cannot be reached.", headers={"Retry-After": "5"}
        ) from None
    return web.json_response({"status": "ok"})
