"""UTF-16, which Excel's "Unicode text" is, and PostgreSQL is not able to write.

Every other encoding is PostgreSQL's own work; see `encoding` in `exports`.
"""

from collections.abc import Callable


def recoder(encoding: str) -> Callable[[bytes], bytes] | None:
    """Return what turns UTF-8, in whole characters, into *encoding*; None if nothing has to."""
    if encoding == "UTF-16LE":
        return lambda block: block.decode().encode("utf-16-le")
    return None
