"""The HTTP interface: routes that end in one call of the queue."""

from aiohttp import web

from ..config import Settings
from ..queue import Queue
from ..storage import Directory
from . import download, exports, health, openapi, pages, problems, sources
from .keys import QUEUE, SETTINGS, SOURCE, STORAGE

LARGEST_BODY = 1024 * 1024


def create_app(
    settings: Settings, queue: Queue, storage: Directory, source: str
) -> web.Application:
    """Return the application; *source* is how to log in as the reader."""
    app = web.Application(
        middlewares=[problems.middleware], client_max_size=LARGEST_BODY
    )
    app[SETTINGS] = settings
    app[QUEUE] = queue
    app[STORAGE] = storage
    app[SOURCE] = source
    app.on_response_prepare.append(download.set_etag)
    app.on_response_prepare.append(pages.set_policy)
    app.add_routes(health.routes)
    app.add_routes(exports.routes)
    app.add_routes(sources.routes)
    app.add_routes(openapi.routes)
    app.add_routes(pages.routes)
    return app
