"""Wait for events, supervise tasks, and end them."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

log = logging.getLogger(__name__)

AGAIN = 1.0  # seconds until a task that goes on is cancelled again
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a task is restarted
WELL = 60.0  # seconds of running after which a failure gets the first pause again


class Backoff:
    """Pauses between attempts: *first* seconds, then doubled up to *longest*."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self.seconds = first  # of the next pause

    def reset(self) -> None:
        """Go back to the first pause, after an attempt has succeeded."""
        self.seconds = self._first

    async def pause(self, unless: asyncio.Event | None = None) -> None:
        """Wait for the next pause, or until *unless* is set."""
        seconds = self.seconds
        self.seconds = min(seconds * 2, self._longest)
        if unless:
            await wait(unless, seconds)
        else:
            await asyncio.sleep(seconds)


async def supervise(
    name: str, run: Callable[[], Awaitable[None]], failed: Callable[[], None]
) -> None:
    """Call *run* until it returns; after an error, log it, pause, and call it again.

    *failed* is called after each error.
    """
    backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
    while True:
        began = time.monotonic()
        try:
            return await run()
        except Exception:
            if time.monotonic() - began > WELL:
                backoff.reset()
            log.exception("%s failed; restarting it in %g s", name, backoff.seconds)
            failed()
        await backoff.pause()


async def wait(event: asyncio.Event, seconds: float) -> None:
    """Return when *event* is set, or after *seconds*."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel *task* and return when it has ended, whether it failed or not.

    The cancellation is repeated: during a query, psycopg may turn it into a
    database error, and a task that handles such errors goes on.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=AGAIN)
    if not task.cancelled():
        task.exception()
