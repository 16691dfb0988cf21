"""The resources /keys and /requesters, for keys with the scope admin."""

from aiohttp import web
from pydantic import TypeAdapter

from .access import who
from .bodies import answer, members
from .keys import ASKER, KEYRING, QUEUE
from .models import (
    KeyInfo,
    KeyList,
    KeyRequest,
    MadeKey,
    Requester,
    RequesterChange,
    RequesterList,
    RequesterName,
)
from .problems import Problem, refusing

routes = web.RouteTableDef()

NAME = TypeAdapter(RequesterName)
SECRET = {"Cache-Control": "no-store"}


@routes.get("/keys")
async def list_keys(request: web.Request) -> web.Response:
    _refuse_anybody(request)
    found = await request.app[QUEUE].keys()
    return answer(KeyList(keys=[KeyInfo(**row) for row in found]), headers=SECRET)


@routes.post("/keys")
async def create(request: web.Request) -> web.Response:
    _refuse_anybody(request)
    with refusing():
        wanted = KeyRequest.model_validate(await members(request))
    made = await request.app[QUEUE].create_key(
        wanted.requester, list(wanted.scopes), wanted.lasts, wanted.label, who(request)
    )
    return answer(MadeKey(**made), status=201, headers=SECRET)


@routes.post("/keys/{id}/rotate")
async def rotate(request: web.Request) -> web.Response:
    _refuse_anybody(request)
    made = await request.app[QUEUE].rotate_key(request.match_info["id"], who(request))
    if made is None:
        raise _unknown(request)
    request.app[KEYRING].forget()
    return answer(MadeKey(**made), status=201, headers=SECRET)


@routes.delete("/keys/{id}")
async def revoke(request: web.Request) -> web.Response:
    _refuse_anybody(request)
    id = request.match_info["id"]
    if not await request.app[QUEUE].revoke_key(id, who(request)):
        raise _unknown(request)
    request.app[KEYRING].forget()
    return web.Response(status=204)


@routes.get("/requesters")
async def list_requesters(request: web.Request) -> web.Response:
    _refuse_anybody(request)
    found = await request.app[QUEUE].requesters()
    return answer(RequesterList(requesters=[Requester(**row) for row in found]))


@routes.patch("/requesters/{name}")
async def change_requester(request: web.Request) -> web.Response:
    _refuse_anybody(request)
    with refusing():
        name = NAME.validate_python(request.match_info["name"])
        wanted = RequesterChange.model_validate(await members(request))
    changed = await request.app[QUEUE].set_requester(name, wanted.changes())
    request.app[KEYRING].forget()
    return answer(Requester(**changed))


def _refuse_anybody(request: web.Request) -> None:
    """Change nothing for somebody who has shown no key: it would outlive AUTH=none."""
    if request[ASKER].key is None:
        raise Problem(
            403,
            "This is for those who show a key with the scope 'admin'.",
            hint="An operator makes the first one by 'csv-export keys create'.",
        )


def _unknown(request: web.Request) -> Problem:
    return Problem(
        404,
        f"There is no key {request.match_info['id']!r} that is accepted, and not replaced.",
    )
