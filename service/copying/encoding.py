"""UTF-16, which Excel's "Unicode text" is, and PostgreSQL is not able to write.

Every other encoding is PostgreSQL's own work; see `encoding` in `exports`.
"""

import codecs
from collections.abc import Callable


def recoder(encoding: str) -> Callable[[bytes], bytes] | None:
    """Return what turns UTF-8, block by block, into *encoding*; None if nothing has to.

    A block may end within a character: its beginning is kept for the next one.
    """
    if encoding == "UTF-16LE":
        decode = codecs.getincrementaldecoder("utf-8")().decode
        return lambda block: decode(block).encode("utf-16-le")
    return None
