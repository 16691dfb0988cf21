"""Pages of lists: a cursor says after which row, by instant and id, a page begins."""

import base64
import binascii
from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from .problems import Problem


def following(request: web.Request, at: datetime, id: object) -> dict[str, str]:
    """Return the header that links to the page after the row (*at*, *id*)."""
    cursor = base64.urlsafe_b64encode(f"{at.isoformat()} {id}".encode()).decode()
    url = request.rel_url.update_query(cursor=cursor)
    return {"Link": f'<{url}>; rel="next"'}


def decode(cursor: str, read_id: Callable[[str], object]) -> dict[str, object]:
    """Return the row that *cursor* names, as restrictions of a list."""
    try:
        at, id = base64.urlsafe_b64decode(cursor).decode().split(" ")
        return {"before_at": datetime.fromisoformat(at), "before_id": read_id(id)}
    except (binascii.Error, UnicodeError, ValueError):
        raise Problem(
            "invalid", "The cursor is invalid; take it from a Link header."
        ) from None
