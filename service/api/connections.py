"""Limit the number and duration of client connections; answer what is not HTTP."""

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

CLOSING = 5.0  # seconds for open requests to end at shutdown
SILENCE = 75.0  # seconds between requests, or until all headers of one have arrived
UNREAD = 120_000  # milliseconds until a client that reads nothing is disconnected
DESCRIPTORS = 65_536  # file descriptors that we ask the kernel for
RESERVED = 128  # descriptors kept for the workers, the database and everything else
FEWEST = 4  # connections that are allowed even with very few descriptors


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """Serve *app* while the block lasts; yield its URL.

    Each connection may also have a file open, so the limit of connections is half
    the number of descriptors that the process may have, less `RESERVED`.  Further
    connections are answered 503 and closed.  Raises `OSError` if the server cannot
    listen on *port*.
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
                if hasattr(socket, "TCP_USER_TIMEOUT"):  # accepted sockets inherit it
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD)
            await listening.start_serving()
            host, port = listening.sockets[0].getsockname()[:2]
            yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
        finally:
            listening.close()
    finally:
        await runner.cleanup()


class _Connection(web.RequestHandler):
    """aiohttp's handler, but with a problem as the answer to what is not HTTP.

    Such a request is not logged as an error of ours.
    """

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
            problem = Problem(400, "The request is not valid HTTP.")
        answer = problem.response()
        answer.force_close()
        return answer


class _Refusal(asyncio.Protocol):
    """Answer that there are too many connections, and close."""

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
    """Raise the limit of descriptors as far as allowed, up to `DESCRIPTORS`; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard):
        return DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    wanted = max(soft, min(hard, DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
