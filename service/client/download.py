"""Download a finished file, complete and verified, or not at all.

The bytes are first written to a partial file in the same folder, whose name contains
the digest.  A later download of the same export to the same place continues it.
"""

import asyncio
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from .http import Away, Client, Export, Refused

TRIES = 6  # attempts in a row that bring no byte, until the download fails
PAUSE = 0.5  # seconds after the first attempt; then twice as long each time
BLOCK = 1024 * 1024

Show = Callable[[int], None]  # takes the number of bytes received so far


async def save(client: Client, export: Export, output: Path | None, show: Show) -> Path:
    """Download to the file *output*, or into the folder *output*; return the path.

    If the server chooses the file's name, no existing file is overwritten.
    """
    if output and output.exists() and not (output.is_file() or output.is_dir()):
        with output.open("wb") as device:
            await send(client, export, device, show)
        return output
    if output and not output.is_dir():
        place = output.resolve() if output.is_symlink() else output
    else:
        name = safe_name(await client.suggested_name(export))
        place = unused((output or Path()) / name)
    assert export.sha256
    partial = place.with_name(f".{place.name[:200]}.{export.sha256[:12]}.partial")
    try:
        with partial.open("a+b") as file:
            await _fill(client, export, file, show)
            os.fsync(file.fileno())
    except Corrupt:
        partial.unlink()
        raise
    os.replace(partial, place)
    return place


async def send(client: Client, export: Export, out: BinaryIO, show: Show) -> None:
    """Download into *out*, which may be a pipe.

    Raises `Corrupt` at the end if the digest is wrong.
    """
    await _receive(client, export, out, hashlib.sha256(), 0, show)


async def _fill(client: Client, export: Export, file: BinaryIO, show: Show) -> None:
    """Complete the partial *file*; start over once if its old bytes are wrong."""
    while True:
        digest = hashlib.sha256()
        file.seek(0)
        while block := file.read(BLOCK):
            digest.update(block)
        start = file.tell()
        try:
            return await _receive(client, export, file, digest, start, show)
        except Corrupt:
            file.truncate(0)
            if not start:
                raise


class Corrupt(Refused):
    """The bytes that arrived are not those that were exported."""


async def _receive(
    client: Client,
    export: Export,
    out: BinaryIO,
    digest: "hashlib._Hash",
    done: int,
    show: Show,
) -> None:
    """Write the missing bytes, using as many connections as are needed."""
    failures = 0
    while done < export.bytes:
        before = done
        try:
            async for chunk in client.download(export, done):
                out.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                show(done)
            broken = Away("the connection ended before the file was complete")
        except Away as error:
            broken = error
        failures = failures + 1 if done == before else 1
        if done < export.bytes:
            if failures == TRIES:
                raise broken
            await asyncio.sleep(PAUSE * 2 ** (failures - 1))
    out.flush()
    if digest.hexdigest() != export.sha256:
        raise Corrupt(
            "the downloaded file is not what was exported: its sha256 is"
            f" {digest.hexdigest()}"
        )


def safe_name(suggested: str) -> str:
    """Return a name without slashes, leading dots and unprintable characters.

    So the file stays in its folder, is visible, and can be printed to a terminal.
    """
    kept = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in suggested)
    return kept.lstrip(".") or "export"


def unused(path: Path) -> Path:
    """Return *path*, or the first of `name-2.csv`, `name-3.csv` that is free."""
    found = re.fullmatch(r"(.*?)((?:\.\w+)?(?:\.gz|\.zst)?)", path.name, re.DOTALL)
    assert found
    number = 2
    while path.exists():
        path = path.with_name(f"{found[1]}-{number}{found[2]}")
        number += 1
    return path
