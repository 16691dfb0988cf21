"""The log of what was done: of ones own exports and keys, or, for `admin`, of all."""

from aiohttp import web

from ..queue.calls import Queue
from . import cursors
from .bodies import answer
from .exports import find
from .keys import ASKER, QUEUE
from .models import ActivityList, ActivityPage, ActivityRequest
from .problems import refusing

routes = web.RouteTableDef()


@routes.get("/activity")
async def list_activity(request: web.Request) -> web.Response:
    with refusing():
        wanted = ActivityRequest.of(request.query)
    restrictions = wanted.restrictions()
    if (whose := request[ASKER].sees) is not None:
        if wanted.requester not in (None, whose):
            return answer(ActivityList(activity=[]))
        restrictions["requester"] = whose
    return await _page(request, wanted, restrictions)


@routes.get("/exports/{id}/activity")
async def of_export(request: web.Request) -> web.Response:
    with refusing():
        wanted = ActivityPage.of(request.query)
    export = await find(request)
    return await _page(request, wanted, {"export": export.id})


async def _page(
    request: web.Request, wanted: ActivityPage, restrictions: dict[str, object]
) -> web.Response:
    if wanted.cursor is not None:
        restrictions |= cursors.decode(wanted.cursor, _id)
    queue: Queue = request.app[QUEUE]
    found = await queue.activities(wanted.limit + 1, **restrictions)
    page = found[: wanted.limit]
    headers = {}
    if len(found) > len(page):
        headers = cursors.following(request, page[-1].at, page[-1].id)
    return answer(ActivityList(activity=page), headers=headers)


def _id(text: str) -> int:
    id = int(text)
    if not 0 <= id < 2**63:
        raise ValueError
    return id
