"""Tell who asks; let a browser sign in and out.

A browser that signs in gets a key of its own, which lives for twelve hours at most
and ends with the key that was shown.  It is in a cookie that no script can read and
no other site can send.
"""

from aiohttp import hdrs, web

from .access import COOKIE, COOKIES, SECURE_COOKIE, who
from .bodies import answer
from .keys import ASKER, KEYRING, QUEUE, SETTINGS
from .models import Limits, Me, Usage
from .problems import Problem

routes = web.RouteTableDef()


@routes.get("/me")
async def me(request: web.Request) -> web.Response:
    asker = request[ASKER]
    if asker.requester is None:
        return answer(Me(requester=None, scopes=None, by=None))
    allowance = await request.app[QUEUE].allowance(asker.requester)
    return answer(
        Me(
            requester=asker.requester,
            scopes=sorted(asker.scopes),
            by="key" if asker.key else "proxy",
            limits=Limits.model_validate(allowance),
            usage=Usage.model_validate(allowance),
        )
    )


@routes.post("/session")
async def sign_in(request: web.Request) -> web.Response:
    if request.app[SETTINGS].auth != "keys":
        raise Problem(409, "This service asks no browser for a key.")
    key = request[ASKER].key
    session = key and await request.app[QUEUE].create_session(key.id, who(request))
    if not session:
        raise Problem(409, "This key was made for a browser, or has just ended.")
    made, lasts = session
    # The scheme of the page, also behind a proxy that ends TLS.
    is_secure = request.headers.get(hdrs.ORIGIN, "").startswith("https:")
    response = web.Response(status=204)
    response.set_cookie(
        SECURE_COOKIE if is_secure else COOKIE,
        made,
        max_age=int(lasts.total_seconds()),
        path="/",
        httponly=True,
        samesite="Strict",
        secure=is_secure,
    )
    return response


@routes.delete("/session")
async def sign_out(request: web.Request) -> web.Response:
    key = request[ASKER].key
    if key is not None and hdrs.AUTHORIZATION not in request.headers:
        await request.app[QUEUE].revoke_key(key.id, who(request))
        request.app[KEYRING].forget()
    response = web.Response(status=204)
    for name in COOKIES:
        response.del_cookie(name, path="/", secure=name == SECURE_COOKIE)
    return response
