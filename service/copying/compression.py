"""Streamed compression, by the fastest libraries measured (see tests/bench).

Both formats may be joined: a file of several gzip members, or zstd frames, is a
valid one.
"""

from typing import Literal, Protocol

GZIP_LEVEL = 2
ZSTD_LEVEL = 1


class Compressor(Protocol):
    def compress(self, data: bytes | bytearray, /) -> bytes: ...
    def flush(self) -> bytes: ...


def compressor(how: Literal["none", "gzip", "zstd"]) -> Compressor | None:
    """Return what turns blocks into one compressed stream; None for none.

    A library is loaded by the first who needs it: a lane has little memory.
    """
    if how == "gzip":
        from isal import isal_zlib

        made: Compressor = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, 31)
        return made
    if how == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(ZSTD_LEVEL, write_checksum=True).compressobj()
    return None
