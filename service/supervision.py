"""Wait for events, supervise tasks, and end them."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

log = logging.getLogger(__name__)

AGAIN = 1.0  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a task starts again
# Seconds after which a task that fails counts as failing for the first time.
WELL = 60.0


class Backoff:
    """Pauses between attempts: the *first*, then twice as long each time."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self.seconds = first  # of the next pause

    def reset(self) -> None:
        """Begin anew: an attempt has succeeded."""
        self.seconds = self._first

    async def pause(self, unless: asyncio.Event | None = None) -> None:
        """Wait, but no longer than until *unless* is set."""
        seconds = self.seconds
        self.seconds = min(seconds * 2, self._longest)
        if unless:
            await wait(unless, seconds)
        else:
            await asyncio.sleep(seconds)


async def supervise(
    name: str, run: Callable[[], Awaitable[None]], failed: Callable[[], None]
) -> None:
    """Run *run* until it returns; log what it raises, and start it again after a pause.

    *failed* is called each time.
    """
    backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
    while True:
        began = time.monotonic()
        try:
            return await run()
        except Exception:
            if time.monotonic() - began > WELL:
                backoff.reset()
            log.exception("%s failed; it starts again in %g s", name, backoff.seconds)
            failed()
        await backoff.pause()


async def wait(event: asyncio.Event, seconds: float) -> None:
    """Return when *event* is set, or after *seconds*."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel *task* and return when it is over, however it went.

    A cancellation that meets psycopg in a query can come out as a database
    error, which a loop takes for one more reason to go on; hence again.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=AGAIN)
    if not task.cancelled():
        task.exception()
