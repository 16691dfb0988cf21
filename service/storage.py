"""Write files to a directory, each of them completely or not at all.

A file is written under a hidden name, flushed to the disk, and renamed; the rename
is flushed, too.  After any crash, a name either does not exist or has all bytes of
its file.
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

FLUSH_EVERY = 16 * 1024 * 1024  # bytes between requests to write to the disk
ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
OURS = re.compile(rf"({ID}-\d+\.[a-z.]+)|\.({ID}-\d+\.[a-z.]+)\.partial")


class CannotCreate(Exception):
    """No file can be created: a problem of the directory, not of the export."""


class CannotWrite(OSError):
    """A file was created, but cannot be written or kept."""


class Directory:
    """The exports directory.

    File names are `<id>-<attempt>.csv` and the like; clients never choose them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        return self.root / name

    def create(self, name: str) -> "Partial":
        """Begin the file *name*; see `Partial`."""
        return Partial(self.root, name)

    def delete(self, name: str) -> None:
        """Remove the file *name*, if it exists and can be removed.

        If not, the janitor removes it later.
        """
        with suppress(OSError):
            self.path(name).unlink()

    def list(self) -> Iterator[tuple[str, str, float]]:
        """Yield each of our files: its final name, its present name, and its age.

        The age is the number of seconds since the last write.
        """
        with os.scandir(self.root) as entries:
            for entry in entries:
                if ours := OURS.fullmatch(entry.name):
                    with suppress(FileNotFoundError):
                        age = time.time() - entry.stat(follow_symlinks=False).st_mtime
                        yield ours[1] or ours[2], entry.name, age

    def free(self) -> int:
        """Return the free bytes; raise `OSError` if the directory cannot be used."""
        if not os.access(self.root, os.R_OK | os.W_OK | os.X_OK):
            # This may raise a more precise error than the next line.
            os.stat(self.root)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        disk = os.statvfs(self.root)
        return disk.f_bavail * disk.f_frsize


class Partial:
    """A file being written.  Its `with` block removes it, unless `keep` was called.

    `bytes` and `sha256` are those of the bytes written so far.
    """

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self._final = root / name
        self._path = root / f".{name}.partial"
        self._digest = hashlib.sha256()
        self._fd = -1
        self._flushing = 0  # bytes that the kernel was asked to write to the disk
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
        """Append *block*; raise `CannotWrite` if the disk is full or fails."""
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
        """Make the kernel start writing to the disk now, so that `keep` waits less."""
        if hasattr(os, "posix_fadvise"):
            size = self.bytes - self._flushing
            # Dirty pages are not dropped: the kernel only starts to write them.
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
        with suppress(OSError):  # it was renamed, or the janitor removes it later
            self._path.unlink()
