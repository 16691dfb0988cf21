"""List the relations that can be exported."""

from aiohttp import web

from .keys import QUEUE
from .readers import sessions_of

routes = web.RouteTableDef()


@routes.get("/sources")
async def list_sources(request: web.Request) -> web.Response:
    sessions = await sessions_of(request)
    found = await request.app[QUEUE].sources(
        sessions.search_path or "public", sessions.reader
    )
    shown = ",".join(source.model_dump_json(by_alias=True) for source in found)
    return web.Response(
        text=f'{{"sources":[{shown}]}}', content_type="application/json"
    )
