"""Start and stop the parts of one process.

A process has a pool, a listener and a janitor, and the HTTP server, the worker, or
both.  The first SIGTERM or Ctrl-C drains: running exports finish, then everything
closes in reverse order.  A second one ends the process at once.
"""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

from aiohttp import web

from . import config
from .api import create_app, create_monitor, keys
from .api.connections import serving
from .api.origins import is_loopback
from .api.rates import Rates
from .config import Settings
from .janitor import Janitor
from .metrics import Metrics
from .postgres.pool import open_pool
from .postgres.reader import Readers
from .queue.calls import Queue
from .queue.feed import Feed
from .queue.keyring import Keyring
from .queue.listener import Listener
from .storage import Directory
from .supervision import end, supervise
from .worker import Worker

log = logging.getLogger(__name__)

API_CONNECTIONS = 8  # of the API to the queue, in addition to those of the slots


class StartError(Exception):
    """The process cannot start; the message says why and what to do."""


@asynccontextmanager
async def running(
    settings: Settings, database_url: str, *, serve: bool, work: bool
) -> AsyncIterator[str]:
    """Run the service while the block lasts; yield its URL, or "" if it has none.

    If not *serve*, there is a URL only if `METRICS_PORT` is set; it then serves
    only health and metrics.
    """
    if serve:
        _refuse_strangers(settings)
    async with AsyncExitStack() as stack:
        readers = Readers(settings, database_url)
        stack.callback(readers.close)
        readers.of().connect()
        try:
            storage = Directory(settings.exports_dir)
        except OSError as error:
            raise StartError(
                f"cannot create EXPORTS_DIR {settings.exports_dir}: {error.strerror}"
            ) from error
        pool = open_pool(
            database_url, API_CONNECTIONS * serve + settings.worker_slots + 2
        )
        await stack.enter_async_context(pool)
        queue = Queue(
            pool,
            max_pending=settings.max_pending,
            retention=timedelta(seconds=settings.retention) or None,
            submit_timeout=settings.submit_timeout,
        )
        listening = settings.listen_database_url or database_url
        listener = Listener(None if listening == config.POLLING_ALONE else listening)
        metrics = Metrics()
        draining = asyncio.Event()

        def supervised(
            name: str, run: Callable[[], Awaitable[None]]
        ) -> asyncio.Task[None]:
            failed = metrics.task_failures.labels(name).inc
            return asyncio.create_task(supervise(name, run, failed))

        stack.push_async_callback(end, supervised("listener", listener.run))
        metrics.listening.set_function(listener.connected.is_set)
        janitor = Janitor(settings, queue, storage, metrics)
        stack.push_async_callback(end, supervised("janitor", janitor.run))
        shared: dict[web.AppKey[Any], Any] = {
            keys.SETTINGS: settings,
            keys.DRAINING: draining,
            keys.QUEUE: queue,
            keys.STORAGE: storage,
            keys.METRICS: metrics,
        }
        url = ""
        if serve:
            feed = Feed(queue, listener)
            stack.push_async_callback(end, supervised("feed", feed.run))
            metrics.subscribers.set_function(lambda: len(feed))
            keyring = Keyring(queue, listener)
            stack.push_async_callback(end, supervised("keyring", keyring.run))
            if settings.auth == "keys" and not await queue.has_keys():
                log.warning(
                    "there is no key yet; make one: csv-export keys create NAME"
                )
            # Only a proxy names requesters that the database has not checked.
            asks_proxy = settings.auth == "proxy"
            logins = await queue.logins() if asks_proxy else frozenset[str]()
            app = create_app(
                shared
                | {
                    keys.FEED: feed,
                    keys.READERS: readers,
                    keys.KEYRING: keyring,
                    keys.LOGINS: logins,
                    keys.RATES: Rates(queue),
                }
            )
            url = await _serve(stack, app, settings.host, settings.port, "PORT")
        elif settings.metrics_port is not None:
            app = create_monitor(shared)
            url = await _serve(
                stack, app, settings.host, settings.metrics_port, "METRICS_PORT"
            )
        if work:
            worker = Worker(settings, queue, listener, storage, readers, metrics)
            working = supervised("worker", worker.run)
            stack.push_async_callback(_drain, worker, working)
        stack.callback(draining.set)
        yield url


async def until_stopped() -> None:
    """Return at the first SIGTERM or SIGINT; the second ends the process."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def stop() -> None:
        if stopped.is_set():
            os._exit(130)
        log.info(
            "shutting down when running exports have finished;"
            " a second signal exits at once"
        )
        stopped.set()

    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, stop)
    await stopped.wait()


def _refuse_strangers(settings: Settings) -> None:
    if settings.auth is None and not is_loopback(settings.host):
        raise StartError(
            f"HOST is {settings.host}, so others can reach the port: say who may ask."
            " AUTH=keys: who shows a key. AUTH=proxy: whom a proxy names. AUTH=none:"
            " everybody; something else must keep strangers out."
        )


async def _serve(
    stack: AsyncExitStack, app: web.Application, host: str, port: int, variable: str
) -> str:
    try:
        return await stack.enter_async_context(serving(app, host, port))
    except OSError as error:
        raise StartError(
            f"cannot listen on {host}:{port}: {error.strerror}; "
            f"set {variable} to another port"
        ) from error


async def _drain(worker: Worker, working: asyncio.Task[None]) -> None:
    worker.drain()
    await working
