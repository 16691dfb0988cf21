"""List the relations that can be exported."""

from aiohttp import web

from .keys import QUEUE, SESSIONS

routes = web.RouteTableDef()


@routes.get("/sources")
async def list_sources(request: web.Request) -> web.Response:
    path = request.app[SESSIONS].search_path or "public"
    found = await request.app[QUEUE].sources(path)
    shown = ",".join(source.model_dump_json(by_alias=True) for source in found)
    return web.Response(
        text=f'{{"sources":[{shown}]}}', content_type="application/json"
    )
