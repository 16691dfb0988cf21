"""A separate server for the corpus, whose scripts would disturb the other tests."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import regress


@pytest.fixture(scope="session")
def corpus() -> Iterator[str]:
    """The conninfo of the database from which each script gets a copy."""
    with tempfile.TemporaryDirectory(prefix="csv-corpus-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with regress.cluster(folder / "server") as pattern:
            asyncio.run(regress.prepare(pattern))
            yield pattern
