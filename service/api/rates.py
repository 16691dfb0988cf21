"""How many requests and previews a requester may make in a minute.

Each process counts what it answers itself.  The answers say how much is left, as
draft-ietf-httpapi-ratelimit-headers has it.
"""

import math
import time
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web

from ..queue.calls import Queue
from .problems import Problem

MINUTE = 60.0  # seconds of a window
FRESH = 5.0  # seconds for which the limits of a requester are remembered
REMEMBERED = 10_000  # requesters, and windows
SPENT = web.RequestKey("spent", dict[str, "Spent"])


@dataclass(frozen=True)
class Spent:
    """What is left of a limit, for so many seconds."""

    limit: int
    left: int
    seconds: int


@dataclass
class Window:
    ends: float
    used: int = 0


class Rates:
    """The minutes of all requesters, for each the *what*: requests, or previews."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._limits: dict[str, tuple[dict[str, int | None], float]] = {}
        self._windows: dict[tuple[str, str], Window] = {}

    async def spend(
        self, request: web.Request, requester: str | None, what: str
    ) -> None:
        """Count one *what*; raise a problem if there have been too many."""
        limit = (await self._of(requester)).get(what) if requester else None
        if requester is None or limit is None:
            return
        now = time.monotonic()
        window = self._windows.get((requester, what))
        if window is None or window.ends <= now:
            _make_room(self._windows)
            window = self._windows[requester, what] = Window(now + MINUTE)
        is_left = window.used < limit
        window.used += is_left
        seconds = math.ceil(window.ends - now)
        spent = request.setdefault(SPENT, {})
        spent[what] = Spent(limit, limit - window.used, seconds)
        if not is_left:
            raise Problem(
                "quota-exceeded",
                f"{requester} may make {limit} {what} a minute.",
                headers={hdrs.RETRY_AFTER: str(seconds)},
                limit=f"max{what.capitalize()}AMinute",
            )

    async def _of(self, requester: str) -> dict[str, int | None]:
        limits, until = self._limits.get(requester, ({}, 0.0))
        if time.monotonic() >= until:
            limits = await self._queue.rates(requester)
            _make_room(self._limits)
            self._limits[requester] = limits, time.monotonic() + FRESH
        return limits


async def tell(request: web.Request, response: web.StreamResponse) -> None:
    """Say in the headers how much is left."""
    spent = request.get(SPENT)
    if spent:
        response.headers["RateLimit-Policy"] = ", ".join(
            f'"{what}";q={one.limit};w={MINUTE:.0f}' for what, one in spent.items()
        )
        response.headers["RateLimit"] = ", ".join(
            f'"{what}";r={one.left};t={one.seconds}' for what, one in spent.items()
        )


def _make_room(remembered: dict[Any, Any]) -> None:
    """Forget the oldest if there are too many."""
    if len(remembered) >= REMEMBERED:
        del remembered[next(iter(remembered))]
