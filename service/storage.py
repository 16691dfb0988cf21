"""Whole files or none, in a directory.

A file is written under a hidden name, flushed to the disk, then renamed, and
the rename flushed as well: whatever dies, a name is either absent or names all
of its bytes.
"""

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class Directory:
    """The exports directory.  Names are ours, `<id>-<attempt>.csv`, never a client's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        return self.root / name

    def create(self, name: str) -> "Partial":
        """Begin the file *name*; see `Partial`."""
        return Partial(self.root, name)

    def delete(self, name: str) -> None:
        """Remove the file *name*; no matter if it is gone."""
        self.path(name).unlink(missing_ok=True)


class Partial:
    """A file being written, in a `with` block that removes it unless it is kept.

    `bytes` and `sha256` are those of what was written so far.
    """

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self._final = root / name
        self._path = root / f".{name}.partial"
        self._digest = hashlib.sha256()
        self._fd = -1
        self.bytes = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        return self

    def write(self, block: bytes | bytearray) -> None:
        with memoryview(block) as rest:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        self._digest.update(block)
        self.bytes += len(block)

    def keep(self) -> None:
        """Make the file permanent and visible under its name."""
        os.fsync(self._fd)
        os.rename(self._path, self._final)
        directory = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)
        self._path.unlink(missing_ok=True)
