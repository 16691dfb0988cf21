"""Compare a file with the receipt of its export, without loading it into memory."""

import csv
import gzip
import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import zstandard

from .http import Export


def differences(file: Path, export: Export) -> list[str]:
    """Return a line for each figure of the receipt that *file* contradicts."""
    if export.sha256 is None:
        return [f"the export is {export.status}: it has no file"]
    found = []
    size = file.stat().st_size
    if size != export.bytes:
        found.append(f"bytes: {export.bytes:,} were exported, the file has {size:,}")
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest == export.sha256:
        return found
    found.append(f"sha256: {export.sha256} was exported, the file has {digest}")
    try:
        rows, header = _read(file, export)
    except (OSError, EOFError, UnicodeError, csv.Error, zstandard.ZstdError) as error:
        return [*found, f"the file cannot be read as {export.format}: {error}"]
    if rows != export.rows:
        found.append(f"rows: {export.rows:,} were exported, the file has {rows:,}")
    expected = [column.name for column in export.result_columns or []]
    if header is not None and header != expected:
        found.append(f"columns: {expected} were exported, the file has {header}")
    return found


def _read(file: Path, export: Export) -> tuple[int, list[str] | None]:
    """Return how many rows the file has, and its header if it should have one."""
    with _decompressed(file, export.compression) as content:
        text = io.TextIOWrapper(
            content, "utf-8-sig" if export.bom else "utf-8", newline=""
        )
        if export.format == "jsonl":
            return sum(1 for _ in text), None
        csv.field_size_limit(2**31 - 1)
        records = csv.reader(text, delimiter=export.delimiter or ",", strict=True)
        header = next(records, []) if export.header else None
        return sum(1 for _ in records), header


@contextmanager
def _decompressed(file: Path, compression: str) -> Iterator[BinaryIO]:
    with file.open("rb") as content:
        if compression == "gzip":
            yield gzip.GzipFile(fileobj=content)  # type: ignore[misc]
        elif compression == "zstd":
            yield zstandard.ZstdDecompressor().stream_reader(
                content, read_across_frames=True
            )
        else:
            yield content
