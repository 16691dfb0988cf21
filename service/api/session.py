"""Tell who asks; let a browser sign in and out.

A browser that signs in gets a key of its own, which lives for a day at most, in a
cookie that no script can read and no other site can send.
"""

from datetime import timedelta

from aiohttp import hdrs, web

from .access import COOKIE
from .keys import ASKER, KEYRING, QUEUE
from .models import Me

routes = web.RouteTableDef()

LASTS = timedelta(hours=12)
LABEL = "signed in by a browser"


@routes.get("/me")
async def me(request: web.Request) -> web.Response:
    asker = request[ASKER]
    known = asker.requester is not None
    told = Me(
        requester=asker.requester,
        scopes=sorted(asker.scopes) if known else None,
        by="key" if asker.key else "proxy" if known else None,
    )
    return web.Response(
        text=told.model_dump_json(by_alias=True), content_type="application/json"
    )


@routes.post("/session")
async def sign_in(request: web.Request) -> web.Response:
    response = web.Response(status=204)
    key = request[ASKER].key
    if key is not None and hdrs.AUTHORIZATION in request.headers:
        made = await request.app[QUEUE].create_key(
            key.requester, sorted(key.scopes), _at_most(key.seconds_left), LABEL
        )
        response.set_cookie(
            COOKIE,
            made["key"],
            max_age=int(LASTS.total_seconds()),
            path="/",
            httponly=True,
            samesite="Strict",
            # The scheme of the page, also behind a proxy that ends TLS.
            secure=request.headers.get(hdrs.ORIGIN, "").startswith("https:"),
        )
    return response


@routes.delete("/session")
async def sign_out(request: web.Request) -> web.Response:
    key = request[ASKER].key
    if key is not None and hdrs.AUTHORIZATION not in request.headers:
        await request.app[QUEUE].revoke_key(key.id)
        request.app[KEYRING].forget()
    response = web.Response(status=204)
    response.del_cookie(COOKIE, path="/")
    return response


def _at_most(seconds: float | None) -> timedelta:
    """A browser is not signed in for longer than its key is accepted."""
    return LASTS if seconds is None else min(LASTS, timedelta(seconds=seconds))
