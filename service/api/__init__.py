"""The HTTP interface: most handlers make one call to the queue."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from . import (
    access,
    activity,
    administration,
    bodies,
    download,
    events,
    exports,
    health,
    links,
    metrics,
    openapi,
    origins,
    pages,
    problems,
    rates,
    session,
    sources,
)
from .keys import FEED, PREVIEWS, SETTINGS
from .previews import Previews

OTHERS_IN_BODY = 1024 * 1024  # bytes of a request in addition to its query


def create_app(resources: Mapping[web.AppKey[Any], Any]) -> web.Application:
    """Return the application; *resources* maps the keys in `keys` to their objects."""
    app = _create(resources, access.middleware)
    app[PREVIEWS] = Previews()
    app.on_shutdown.append(_end_streams)
    app.on_cleanup.append(_end_previews)
    app.on_response_prepare.append(download.set_etag)
    app.on_response_prepare.append(pages.set_policy)
    app.on_response_prepare.append(rates.tell)
    for module in (
        exports, links, activity, events, sources, session, administration, openapi, pages
    ):  # fmt: skip
        app.add_routes(module.routes)
    access.check(app)
    return app


def create_monitor(resources: Mapping[web.AppKey[Any], Any]) -> web.Application:
    """Return the application of a worker without an API: health and metrics."""
    return _create(resources)


def _create(
    resources: Mapping[web.AppKey[Any], Any], *more: Middleware
) -> web.Application:
    app = web.Application(
        # Nobody's body is read before it is known who asks.
        middlewares=[
            problems.middleware, origins.middleware, *more, bodies.middleware
        ],  # fmt: skip
        # JSON may escape each character of a query.
        client_max_size=2 * resources[SETTINGS].max_query_bytes
        + OTHERS_IN_BODY,
    )
    app.update(resources)  # type: ignore[arg-type]
    app.add_routes(health.routes)
    app.add_routes(metrics.routes)
    return app


async def _end_streams(app: web.Application) -> None:
    app[FEED].close()


async def _end_previews(app: web.Application) -> None:
    app[PREVIEWS].close()
