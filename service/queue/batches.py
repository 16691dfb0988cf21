"""Calls that come while another one is under way are made together, as the next."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batches(Generic[T, R]):
    """Calls *make* with up to *most* things at once; it returns an answer to each.

    The first one goes alone and at once, so nobody waits without need.  If many
    fail together, each is tried alone: no one's fault is another's.
    """

    def __init__(
        self, make: Callable[[Sequence[T]], Awaitable[Sequence[R]]], most: int = 100
    ) -> None:
        self._make = make
        self._most = most
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._calling: asyncio.Task[None] | None = None

    async def call(self, thing: T) -> R:
        """Return the answer to *thing*, or raise what calling raised."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((thing, answer))
        if self._calling is None:
            self._calling = asyncio.create_task(self._call())
        return await answer

    async def _call(self) -> None:
        try:
            while self._waiting:
                next_ones = self._waiting[: self._most]
                del self._waiting[: self._most]
                # Some may have given up.
                now = [one for one in next_ones if not one[1].done()]
                if len(now) > 1:
                    with suppress(Exception):
                        await self._answer(now)
                        continue
                await asyncio.gather(*map(self._answer_alone, now))
        finally:
            self._calling = None

    async def _answer_alone(self, one: tuple[T, asyncio.Future[R]]) -> None:
        try:
            await self._answer([one])
        except Exception as error:
            if not one[1].done():
                one[1].set_exception(error)

    async def _answer(self, asked: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        answers = await self._make([thing for thing, _ in asked])
        for (_, future), answer in zip(asked, answers, strict=True):
            if not future.done():  # else nobody waits for it any more
                future.set_result(answer)
