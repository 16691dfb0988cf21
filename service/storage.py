"""Whole files or none, in a directory.

A file is written under a hidden name, flushed to the disk, then renamed, and
the rename flushed as well: whatever dies, a name is either absent or names all
of its bytes.
"""

import errno
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

FLUSH_EVERY = 16 * 1024 * 1024  # bytes
ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
OURS = re.compile(rf"({ID}-\d+\.[a-z.]+)|\.({ID}-\d+\.[a-z.]+)\.partial")


class CannotCreate(Exception):
    """No file can be made here: that is the directory's fault, not the export's."""


class CannotWrite(OSError):
    """A file that was begun cannot be written, or kept."""


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
        """Remove the file *name*; no matter if it is gone, or cannot be removed.

        The janitor will find it.
        """
        with suppress(OSError):
            self.path(name).unlink()

    def list(self) -> Iterator[tuple[str, str, float]]:
        """Yield the file that each entry of ours is, or will be, the entry, and its age.

        The age is that of the last write, in seconds.
        """
        with os.scandir(self.root) as entries:
            for entry in entries:
                if ours := OURS.fullmatch(entry.name):
                    with suppress(FileNotFoundError):
                        age = time.time() - entry.stat(follow_symlinks=False).st_mtime
                        yield ours[1] or ours[2], entry.name, age

    def free(self) -> int:
        """Return how many bytes could still be written; raise `OSError` if none can."""
        if not os.access(self.root, os.R_OK | os.W_OK | os.X_OK):
            # It tells why, if it knows.
            os.stat(self.root)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        disk = os.statvfs(self.root)
        return disk.f_bavail * disk.f_frsize


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
        self._flushing = 0  # bytes that the kernel has begun to write to the disk
        self.bytes = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        except OSError as error:
            raise CannotCreate(error.strerror) from error
        return self

    def write(self, block: bytes | memoryview) -> None:
        """Append *block*; raise `CannotWrite` when the disk is full, or gone."""
        try:
            with memoryview(block) as rest:
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            raise CannotWrite(*error.args) from error
        self._digest.update(block)
        self.bytes += len(block)
        if self.bytes - self._flushing >= FLUSH_EVERY:
            self._begin_to_flush()

    def _begin_to_flush(self) -> None:
        """Have the kernel write what it has, while more is coming: `keep` waits less."""
        if hasattr(os, "posix_fadvise"):
            size = self.bytes - self._flushing
            # Of pages that are still dirty it begins the writing, and no more.
            os.posix_fadvise(self._fd, self._flushing, size, os.POSIX_FADV_DONTNEED)
        self._flushing = self.bytes

    def keep(self) -> None:
        """Make the file permanent and visible under its name, or raise `CannotWrite`."""
        try:
            os.fsync(self._fd)
            os.rename(self._path, self._final)
            directory = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise CannotWrite(*error.args) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)
        with suppress(OSError):  # it was kept; or the janitor will find it
            self._path.unlink()
