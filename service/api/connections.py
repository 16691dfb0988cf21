"""Connections of clients: how many, for how long, and what comes in that is no HTTP."""

import asyncio
import logging
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from .problems import Problem

log = logging.getLogger(__name__)

CLOSING = 5.0  # seconds in which open requests may end
SILENCE = 75.0  # seconds between requests, or until one has all of its headers
UNREAD = 120_000  # milliseconds in which a client takes nothing of what is sent
DESCRIPTORS = 65_536  # wanted
RESERVED = 128  # descriptors that are for the workers, the database and the rest
FEWEST = 4  # connections, however few descriptors there are


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """Serve *app* while the block lasts; yield its URL.

    A connection may have a file open.  So there are half as many as the process
    may have descriptors, `RESERVED` ones left out; more are answered 503 and closed.
    Raises `OSError` if *port* cannot be listened on.
    """
    runner = web.AppRunner(app, shutdown_timeout=CLOSING)
    await runner.setup()
    server = runner.server
    assert server
    most = max(FEWEST, (_raise_limit() - RESERVED) // 2)
    loop = asyncio.get_running_loop()

    def protocol() -> asyncio.Protocol:
        if len(server.connections) >= most:
            return _Refusal()
        return _Connection(
            server,
            loop=loop,
            keepalive_timeout=SILENCE,
            access_log=None,  # type: ignore[arg-type]
            auto_decompress=False,
        )

    try:
        listening = await loop.create_server(
            protocol, host, port, backlog=1024, start_serving=False
        )
        try:
            for one in listening.sockets:
                if hasattr(socket, "TCP_USER_TIMEOUT"):  # what is accepted inherits it
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD)
            await listening.start_serving()
            host, port = listening.sockets[0].getsockname()[:2]
            yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
        finally:
            listening.close()
    finally:
        await runner.cleanup()


class _Connection(web.RequestHandler):
    """aiohttp's, but what is no HTTP is answered as all else, and not logged as ours."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status != 400:
            return super().handle_error(request, status, exc, message)
        log.debug("not HTTP, from %s: %s", request.remote, exc)
        if isinstance(exc, LineTooLong):
            problem = Problem(431, "The URL or a header is longer than 8,190 bytes.")
        else:
            problem = Problem(400, "This is no HTTP request that can be read.")
        answer = problem.response()
        answer.force_close()
        return answer


class _Refusal(asyncio.Protocol):
    """Says that there are too many, and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        problem = Problem(503, "There are too many connections; try again in a moment.")
        body: Any = problem.response().body
        transport.write(
            b"HTTP/1.1 503 Service Unavailable\r\n"
            b"Content-Type: application/problem+json\r\n"
            b"Retry-After: 5\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        transport.close()


def _raise_limit() -> int:
    """Have as many descriptors as we may, up to `DESCRIPTORS`; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard):
        return DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    wanted = max(soft, min(hard, DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
