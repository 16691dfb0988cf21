"""Make previews in threads of their own, so that nothing else waits for them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .problems import Problem

T = TypeVar("T")

AT_ONCE = 4  # previews that are made at the same time
WAITING = 16  # previews that may wait; more are refused


class Previews:
    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, "preview")
        self._asked = 0

    async def make(self, preview: Callable[..., T], *arguments: object) -> T:
        """Return the result of *preview*; raise a 503 if too many are waiting."""
        if self._asked >= AT_ONCE + WAITING:
            raise Problem(
                503,
                "Too many previews are being made; try again in a moment.",
                headers={"Retry-After": "5"},
            )
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, preview, *arguments
            )
        finally:
            self._asked -= 1

    def close(self) -> None:
        """Start no further preview; those that run end soon, by their own time limit."""
        self._threads.shutdown(wait=False, cancel_futures=True)
