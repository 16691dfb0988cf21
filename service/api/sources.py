"""What can be exported."""

from aiohttp import web

from .keys import QUEUE

routes = web.RouteTableDef()


@routes.get("/sources")
async def list_sources(request: web.Request) -> web.Response:
    found = await request.app[QUEUE].sources()
    shown = ",".join(source.model_dump_json(by_alias=True) for source in found)
    return web.Response(
        text=f'{{"sources":[{shown}]}}', content_type="application/json"
    )
