"""Wait for events, and end tasks, of this process."""

import asyncio
from contextlib import suppress
from typing import Any

AGAIN = 1.0  # seconds


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
