"""Who asks, and what they may do.

With `AUTH=keys` each request shows a key: in `Authorization: Bearer`, or, from
the page, in a cookie.  Its scopes say which routes it may call, and its requester
whose exports it sees.  What belongs to somebody else does not exist: 404.

With `AUTH=proxy` a proxy has asked already, and tells the requester in a header,
which nobody but the proxy may send.  Programs may show a key instead.
"""

import ipaddress
import logging
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from ..model import Who
from ..queue.keyring import is_well_formed
from .askers import SCOPES, Asker, Need
from .keys import ASKER, KEYRING, LOGINS, METRICS, RATES, SETTINGS
from .models import REQUESTER
from .problems import Problem

log = logging.getLogger(__name__)

COOKIE, SECURE_COOKIE = "csv_export_key", "__Host-csv_export_key"
COOKIES = (SECURE_COOKIE, COOKIE)  # the first that is sent counts
REALM = 'Bearer realm="CSV Export Service"'

# What a key must allow for each route; "any": every key will do.
NEEDS: dict[tuple[str, str], Need] = {
    ("GET", "/health"): "nothing",
    ("GET", "/health/live"): "nothing",
    ("GET", "/health/ready"): "nothing",
    ("GET", "/"): "nothing",
    ("GET", "/docs"): "nothing",
    ("GET", "/favicon.ico"): "nothing",
    ("GET", "/web"): "nothing",
    ("GET", "/openapi.json"): "nothing",
    ("GET", "/me"): "any",
    ("POST", "/session"): "any",
    ("DELETE", "/session"): "any",
    ("GET", "/metrics"): "read",
    ("GET", "/sources"): "read",
    ("GET", "/events"): "read",
    ("GET", "/exports"): "read",
    ("GET", "/exports/{id}"): "read",
    ("GET", "/exports/{id}/events"): "read",
    ("GET", "/exports/{id}/download"): "download",
    ("GET", "/exports/{id}/activity"): "read",
    ("GET", "/activity"): "read",
    ("GET", "/exports/{id}/links"): "download",
    ("POST", "/exports/{id}/links"): "download",
    ("DELETE", "/exports/{id}/links/{link}"): "download",
    ("GET", "/links/{token}"): "nothing",
    ("GET", "/keys"): "admin",
    ("POST", "/keys"): "admin",
    ("POST", "/keys/{id}/rotate"): "admin",
    ("DELETE", "/keys/{id}"): "admin",
    ("GET", "/requesters"): "admin",
    ("PATCH", "/requesters/{name}"): "admin",
    ("POST", "/exports"): "export",
    ("POST", "/exports/{id}/cancel"): "export",
    ("POST", "/exports/{id}/retry"): "export",
    ("DELETE", "/exports/{id}"): "export",
}


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    asks = request.app[SETTINGS].auth in ("keys", "proxy")
    request[ASKER] = Asker.stranger() if asks else Asker.anybody()
    resource = request.match_info.route.resource
    if asks and resource is not None:
        need = NEEDS[_method(request), resource.canonical]
        if need != "nothing":
            asker = request[ASKER] = await _recognize(request)
            if not asker.may(need):
                raise Problem(
                    "missing-scope",
                    f"You may not do this: it needs the scope {need!r}.",
                    headers={
                        hdrs.WWW_AUTHENTICATE: f'{REALM}, error="insufficient_scope",'
                        f' scope="{need}"'
                    },
                    scope=need,
                )
            await request.app[RATES].spend(request, asker.requester, "requests")
    return await handler(request)


def check(app: web.Application) -> None:
    """Raise `KeyError` if a route of *app* is not in `NEEDS`."""
    for route in app.router.routes():
        assert route.resource is not None
        if route.method != hdrs.METH_HEAD:
            NEEDS[route.method, route.resource.canonical]


def who(request: web.Request) -> Who:
    """Return who has sent *request*, for the log of activities."""
    asker = request[ASKER]
    return Who(asker.requester, asker.key.id if asker.key else None, request.remote)


@contextmanager
def holding(request: web.Request) -> Iterator[None]:
    """Close the connection of *request* if its key or link ends before the block."""
    held = request[ASKER].holds
    if held is None:
        yield
        return

    def drop() -> None:
        # As if the client had gone: aborting the transport disturbs asyncio's sendfile.
        if request.transport is not None:
            with suppress(OSError):
                request.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    with request.app[KEYRING].holding(held, drop):
        yield


async def _recognize(request: web.Request) -> Asker:
    bearer = _bearer(request)
    if request.app[SETTINGS].auth == "proxy":
        # Proxies may pass on a token of their own.  Their browsers need no cookie.
        if bearer is None or not is_well_formed(bearer):
            return _told_by_proxy(request)
    names = () if bearer is not None else COOKIES
    cookie = next((name for name in names if name in request.cookies), None)
    shown = request.cookies[cookie] if cookie else bearer
    if shown is None:
        raise Problem(
            401,
            "A key is needed.",
            headers={hdrs.WWW_AUTHENTICATE: REALM},
            hint="Send it as 'Authorization: Bearer …'. An operator makes one by"
            " 'csv-export keys create'.",
        )
    key = await request.app[KEYRING].recognize(shown)
    if key is None:
        request.app[METRICS].keys_refused.inc()
        log.warning("a key from %s is not accepted", request.remote)
        await request.app[KEYRING].log_refused(request.remote)
        headers: dict[str, str] = {
            hdrs.WWW_AUTHENTICATE: f'{REALM}, error="invalid_token"'
        }
        if cookie is not None:  # so that the browser does not send it again
            secure = "; Secure" if cookie == SECURE_COOKIE else ""
            headers[hdrs.SET_COOKIE] = f"{cookie}=; Max-Age=0; Path=/{secure}"
        raise Problem(
            401,
            "This key is not accepted: it is wrong, has expired, or was revoked.",
            headers=headers,
        )
    return Asker.of_key(key)


def _told_by_proxy(request: web.Request) -> Asker:
    settings = request.app[SETTINGS]
    peer = request.transport and request.transport.get_extra_info("peername")
    address = ipaddress.ip_address(peer[0].partition("%")[0]) if peer else None
    if address is None or not any(address in one for one in settings.auth_proxies):
        raise Problem(403, "Requests must come through the proxy, or show a key.")
    told = request.headers.getall(settings.auth_header, [])
    if len(told) != 1 or not re.fullmatch(REQUESTER, told[0]):
        raise Problem(
            401,
            "The proxy has not said who asks.",
            headers={hdrs.WWW_AUTHENTICATE: REALM},
            hint=f"It must set the header {settings.auth_header}, to one plain name.",
        )
    if told[0] in request.app[LOGINS]:
        raise Problem(403, f"{told[0]} is a login of the service, and no requester.")
    return Asker(told[0], SCOPES)


def _bearer(request: web.Request) -> str | None:
    scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else None


def _method(request: web.Request) -> str:
    return hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
