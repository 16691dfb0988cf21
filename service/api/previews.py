"""Previews in threads of their own: nothing else ever waits for them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .problems import Problem

T = TypeVar("T")

AT_ONCE = 4
WAITING = 16  # more are refused


class Previews:
    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, "preview")
        self._asked = 0

    async def make(self, preview: Callable[..., T], *arguments: object) -> T:
        """Return what *preview* does; a 503 if too many are asked for already."""
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
        """Begin no more; each that runs ends by itself soon."""
        self._threads.shutdown(wait=False, cancel_futures=True)
