"""Keep other web pages out.

A web page can make the browser of its visitor send requests to this service.  No
page can forge these headers: `Host` is the name by which the browser found the
service, so it reveals a foreign name that resolves to this machine (DNS
rebinding); `Sec-Fetch-Site`, or `Origin` in older browsers, reveals a request
that a page of another origin sends.
"""

import ipaddress
from collections.abc import Sequence

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from yarl import URL

from .keys import SETTINGS
from .problems import Problem

SAFE = ("GET", "HEAD", "OPTIONS")
ANY = "*"


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    settings = request.app[SETTINGS]
    host = request.headers.get(hdrs.HOST)
    names = settings.allowed_hosts
    if names is None and not is_loopback(settings.host):
        names = (ANY,)
    if host is not None and not is_allowed(host, names or ()):
        raise Problem(
            421,
            f"This service does not answer requests for the host {host!r}.",
            hint="An operator can add that name to ALLOWED_HOSTS.",
        )
    if request.method not in SAFE and is_foreign(request, host):
        raise Problem(403, "Requests from pages of other origins are refused.")
    return await handler(request)


def is_allowed(host: str, names: Sequence[str]) -> bool:
    """Return whether *host*, as in a header, is one of *names*, or a loopback name."""
    name = (_url(f"http://{host}").host or "").lower()
    return ANY in names or name in names or is_loopback(name)


def is_loopback(name: str) -> bool:
    """Return whether *name* always leads to this machine."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def is_foreign(request: web.Request, host: str | None) -> bool:
    """Return whether a page of another origin has sent the request."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get(hdrs.ORIGIN)
    return origin is not None and _url(origin).authority != host


def _url(text: str) -> URL:
    """Parse *text*; return a URL that has no host if it is none."""
    try:
        return URL(text)
    except ValueError:
        return URL()
