"""Convert to UTF-16, the encoding of Excel's "Unicode text".

PostgreSQL cannot write UTF-16.  It writes every other encoding itself; see the
column `encoding` of `exports`.
"""

import codecs
from collections.abc import Callable


def recoder(encoding: str) -> Callable[[bytes], bytes] | None:
    """Return a function that converts blocks of UTF-8; None if none is needed.

    A block may end within a character: the incomplete bytes are kept and put
    before the next block.
    """
    if encoding == "UTF-16LE":
        decode = codecs.getincrementaldecoder("utf-8")().decode
        return lambda block: decode(block).encode("utf-16-le")
    return None
