"""A server for the corpus: its scripts would spoil the one of the other tests."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import regress


@pytest.fixture(scope="session")
def corpus() -> Iterator[str]:
    """The conninfo of the database that the scripts' are copies of."""
    with tempfile.TemporaryDirectory(prefix="csv-corpus-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with regress.cluster(folder / "server") as pattern:
            asyncio.run(regress.prepare(pattern))
            yield pattern
