"""A short run of `make chaos`, always with the same plan."""

import itertools

import pytest
from rich.console import Console

from ..chaos import plan, run

SEED = 20


@pytest.mark.newest
def test_a_short_run(server: str) -> None:
    figures = run(SEED, 8, Console(quiet=True))
    assert figures["exports completed"] > 5


def test_the_plan_follows_from_the_seed() -> None:
    short, long = list(plan(SEED, 8)), list(plan(SEED, 60))
    assert long[: len(short)] == short
    assert list(itertools.islice(plan(SEED + 1, 8), len(short))) != short
