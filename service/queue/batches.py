"""Combine concurrent calls: those that arrive while one is running share the next."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batches(Generic[T, R]):
    """Call *make* with up to *most* things at once; it returns an answer for each.

    When nothing is running, a call is made alone and at once, so batching adds no
    delay.  If a batch fails, each thing is tried alone: one bad thing must not
    fail the others.
    """

    def __init__(
        self, make: Callable[[Sequence[T]], Awaitable[Sequence[R]]], most: int = 100
    ) -> None:
        self._make = make
        self._most = most
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._calling: asyncio.Task[None] | None = None

    async def call(self, thing: T) -> R:
        """Return the answer for *thing*, or raise what `make` raised for it."""
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
                # Leave out those whose caller has been cancelled.
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
            if not future.done():  # otherwise its caller has been cancelled
                future.set_result(answer)
