"""What compressing an export costs, by library and level: the choice in `service`."""

import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
import zstandard
from isal import isal_zlib
from zlib_ng import zlib_ng

from service.copying.compression import GZIP_LEVEL, ZSTD_LEVEL, Compressor
from service.copying.copy import Copy
from service.postgres.reader import Sessions

from .common import Spread, Table, alternate, make_table, options, report, run_server

GZIP = 31  # window bits: the largest window, in gzip's wrapper
CHOSEN = {f"isal {GZIP_LEVEL}", f"zstandard {ZSTD_LEVEL}"}


def compressors() -> Iterator[tuple[str, Callable[[], Compressor]]]:
    """Yield each library and level, and what makes a new stream of it."""
    for level in (1, 2, 4, 6):
        yield f"zlib {level}", partial(zlib.compressobj, level, zlib.DEFLATED, GZIP)
    for level in (1, 2, 4, 6):
        yield f"zlib-ng {level}", partial(
            zlib_ng.compressobj, level, zlib_ng.DEFLATED, GZIP
        )
    for level in (0, 1, 2, 3):
        yield f"isal {level}", partial(
            isal_zlib.compressobj, level, isal_zlib.DEFLATED, GZIP
        )
    for level in (-1, 1, 3, 6):
        made = partial(zstandard.ZstdCompressor, level, write_checksum=True)
        yield f"zstandard {level}", partial(_zstd_stream, made)


def _zstd_stream(made: Callable[[], zstandard.ZstdCompressor]) -> Compressor:
    return made().compressobj()


@click.command()
@click.option("--rows", default=400_000, show_default=True)
@click.option("--runs", default=3, show_default=True)
@options
def main(rows: int, runs: int, version: int | None, to: Path | None) -> None:
    """Compress the blocks of an export in one thread, without any file."""
    ways = dict(compressors())
    tables = []
    with run_server(version) as server:
        for kind in ("narrow", "wide"):
            database = server.database(kind, migrate=False)
            make_table(database, kind, rows)
            blocks: list[bytes] = []
            Copy(Sessions(database), "bench", "select * from bench").run(
                lambda block: blocks.append(bytes(block))
            )
            tables.append(compare(kind, blocks, ways, runs))
        report("compression", tables, to, server)


def compare(
    kind: str,
    blocks: list[bytes],
    ways: dict[str, Callable[[], Compressor]],
    runs: int,
) -> Table:
    size = sum(map(len, blocks))
    results = alternate(
        {way: partial(compress, make, blocks) for way, make in ways.items()}, runs
    )
    table = Table(
        f"{kind}, {size / 1e6:,.0f} MB in {len(blocks):,} blocks, {runs} runs of each",
        ("library and level", "MB/s", "size of 100"),
        plot="MB/s",
        digits=1,
    )
    for way, measured in results.items():
        speed = Spread.of([size / 1e6 / seconds for seconds, _ in measured])
        compressed = measured[0][1]
        table.add(way, speed, compressed / size * 100, ours=way in CHOSEN)
    return table


def compress(make: Callable[[], Compressor], blocks: list[bytes]) -> tuple[float, int]:
    """Return the seconds that it takes, and the bytes that are left."""
    began = time.perf_counter()
    compressor = make()
    size = sum(len(compressor.compress(block)) for block in blocks)
    size += len(compressor.flush())
    return time.perf_counter() - began, size
