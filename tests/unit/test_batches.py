"""Calls that are made together: in order, in bounded number, with separate failures."""

import asyncio
from collections.abc import Sequence

import pytest

from service.queue.batches import Batches


class Server:
    """Doubles numbers, and refuses 13."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.go = asyncio.Event()

    async def double(self, numbers: Sequence[int]) -> list[int]:
        self.calls.append(list(numbers))
        await self.go.wait()
        if 13 in numbers:
            raise ValueError("13")
        return [2 * number for number in numbers]


async def test_what_comes_meanwhile_goes_together() -> None:
    server = Server()
    together = Batches(server.double, most=3)
    tasks = [asyncio.create_task(together.call(n)) for n in (1,)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(together.call(n)) for n in (2, 3, 4, 5)]
    await asyncio.sleep(0)
    server.go.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10]
    assert server.calls == [[1], [2, 3, 4], [5]]
    assert await together.call(6) == 12


async def test_one_that_fails_fails_alone_and_one_that_left_harms_nobody() -> None:
    server = Server()
    together = Batches(server.double)
    tasks = [asyncio.create_task(together.call(n)) for n in (1, 13, 2, 3)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    server.go.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[0] == 2 and answers[2] == 4
    assert isinstance(answers[1], ValueError)
    assert server.calls == [[1, 13, 2], [1], [13], [2]]
    assert isinstance(answers[3], asyncio.CancelledError)
    with pytest.raises(ValueError):
        await together.call(13)
