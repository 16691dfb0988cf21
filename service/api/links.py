"""Links that download one file without a key."""

from aiohttp import web

from .access import who
from .askers import Asker
from .bodies import answer, members
from .exports import find, require_file, send
from .keys import ASKER, KEYRING, QUEUE
from .models import LinkInfo, LinkList, LinkRequest, MadeLink
from .problems import Problem, refusing

routes = web.RouteTableDef()


@routes.post("/exports/{id}/links")
async def create(request: web.Request) -> web.Response:
    export = await find(request)
    with refusing():
        wanted = LinkRequest.model_validate(await members(request))
    require_file(export)
    made = await request.app[QUEUE].create_link(export.id, wanted.lasts, who(request))
    shown = MadeLink(
        id=made["id"], url=f"/links/{made['token']}", expires_at=made["expires_at"]
    )
    return answer(shown, status=201, headers={"Cache-Control": "no-store"})


@routes.get("/exports/{id}/links")
async def list_links(request: web.Request) -> web.Response:
    export = await find(request)
    found = await request.app[QUEUE].links(export.id)
    return answer(LinkList(links=[LinkInfo(**row) for row in found]))


@routes.delete("/exports/{id}/links/{link}")
async def revoke(request: web.Request) -> web.Response:
    export = await find(request)
    link = request.match_info["link"]
    if "\0" in link or not await request.app[QUEUE].revoke_link(
        export.id, link, who(request)
    ):
        raise Problem(404, f"There is no link {link!r} that is not revoked.")
    request.app[KEYRING].forget()
    return web.Response(status=204)


@routes.get("/links/{token}")
async def follow(request: web.Request) -> web.StreamResponse:
    link = await request.app[KEYRING].find_link(request.match_info["token"])
    export = await request.app[QUEUE].get(link.export) if link else None
    if link is None or export is None:
        # Strangers are not told whether it was ever one.
        raise Problem(404, "There is no such link, or it has ended.")
    request[ASKER] = Asker.of_link(link)
    response = await send(request, export)
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
