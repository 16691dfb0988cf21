"""Server-Sent Events (WHATWG) for the changes of one export, or of all."""

import asyncio
from uuid import UUID

from aiohttp import web
from aiohttp_sse import EventSourceResponse

from ..queue.feed import end_of
from .access import holding
from .exports import find
from .keys import ASKER, FEED
from .problems import Problem

routes = web.RouteTableDef()

RETRY = b"retry: 3000\n\n"
COMMENT_EVERY = 15.0  # seconds
PATIENCE = 30.0  # seconds for one write
PIECE = 32 * 1024  # bytes of one write
STREAMS = 10_000  # the limit for one process


@routes.get("/events", allow_head=False)
async def watch_all(request: web.Request) -> web.StreamResponse:
    return await _stream(request, None)


@routes.get("/exports/{id}/events", allow_head=False)
async def watch(request: web.Request) -> web.StreamResponse:
    export = await find(request)
    last_event = request.headers.get("Last-Event-ID", "")
    if export.ended and last_event.endswith(end_of(export)):
        return web.Response(status=204)  # which tells EventSource to stop
    return await _stream(request, export.id)


async def _stream(request: web.Request, id: UUID | None) -> web.StreamResponse:
    if request.transport is None:
        return web.Response()  # the client has already disconnected
    response = EventSourceResponse(
        ping_interval=COMMENT_EVERY, send_timeout=PATIENCE, sep="\n"
    )
    response.headers["Cache-Control"] = "no-cache, no-transform"
    events = request.app[FEED]
    if len(events) >= STREAMS:
        raise Problem(
            503,
            f"There are {STREAMS:,} event streams already; try again in a moment.",
            headers={"Retry-After": "5"},
        )
    subscriber = events.subscribe(
        id,
        request.headers.get("Last-Event-ID"),
        request.transport.abort,
        request[ASKER].sees,
    )
    try:
        await response.prepare(request)
        with holding(request):
            async with response:
                await response.write(RETRY)
                # All subscribers share the same bytes; `response.send` would encode
                # them again for each.
                async for chunk in subscriber:
                    for at in range(0, len(chunk), PIECE):
                        # Wait for each piece: a transport copies what it cannot send
                        # yet.
                        async with asyncio.timeout(PATIENCE):
                            await response.write(memoryview(chunk)[at : at + PIECE])
    except (ConnectionError, TimeoutError):
        pass  # the client has disconnected, or does not read
    finally:
        events.unsubscribe(subscriber)
    return response
