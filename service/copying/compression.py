"""Streamed compression, with the fastest libraries measured (see tests/bench).

Both formats can be concatenated: several gzip members, or several zstd frames,
are one valid file.
"""

from typing import Literal, Protocol

GZIP_LEVEL = 2
ZSTD_LEVEL = 1


class Compressor(Protocol):
    def compress(self, data: bytes | bytearray, /) -> bytes: ...
    def flush(self) -> bytes: ...


def compressor(how: Literal["none", "gzip", "zstd"]) -> Compressor | None:
    """Return a compressor for one stream of blocks, or None if *how* is "none".

    A library is imported only when it is used, to keep the lane processes small.
    """
    if how == "gzip":
        from isal import isal_zlib

        made: Compressor = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, 31)
        return made
    if how == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(ZSTD_LEVEL, write_checksum=True).compressobj()
    return None
