from collections.abc import Iterator
from pathlib import Path

import pytest

from .world import World


@pytest.fixture
def world(database: str, exports_dir: Path) -> Iterator[World]:
    with World(database, exports_dir) as world:
        yield world
