"""Serve the metrics to Prometheus."""

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from .keys import METRICS, QUEUE

routes = web.RouteTableDef()


@routes.get("/metrics")
async def scrape(request: web.Request) -> web.Response:
    depth = await request.app[QUEUE].depth()
    return web.Response(
        body=request.app[METRICS].text(depth),
        headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4},
    )
