"""The HTTP interface: routes that end in one call of the queue."""

from aiohttp import web

from ..config import Settings
from ..events import Events
from ..queue import Queue
from ..storage import Directory
from . import (
    download,
)
from . import events as streams
from . import exports, health, openapi, pages, problems, sources
from .keys import EVENTS, QUEUE, SETTINGS, SOURCE, STORAGE

LARGEST_BODY = 1024 * 1024


def create_app(
    settings: Settings, queue: Queue, events: Events, storage: Directory, source: str
) -> web.Application:
    """Return the application; *source* is how to log in as the reader."""
    app = web.Application(
        middlewares=[problems.middleware], client_max_size=LARGEST_BODY
    )
    app[SETTINGS] = settings
    app[QUEUE] = queue
    app[EVENTS] = events
    app[STORAGE] = storage
    app[SOURCE] = source
    app.on_shutdown.append(_end_streams)
    app.on_response_prepare.append(download.set_etag)
    app.on_response_prepare.append(pages.set_policy)
    app.add_routes(health.routes)
    app.add_routes(exports.routes)
    app.add_routes(streams.routes)
    app.add_routes(sources.routes)
    app.add_routes(openapi.routes)
    app.add_routes(pages.routes)
    return app


async def _end_streams(app: web.Application) -> None:
    app[EVENTS].close()
