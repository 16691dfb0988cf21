"""Find the sessions that read for who asks."""

import asyncio
import logging

from aiohttp import web

from ..postgres.connections import DatabaseError
from ..postgres.reader import Sessions
from .keys import ASKER, QUEUE, READERS
from .problems import Problem

log = logging.getLogger(__name__)


async def sessions_of(request: web.Request) -> Sessions:
    """Return the sessions of the asker's reader, whose `search_path` is known."""
    asker = request[ASKER]
    reader = asker.reader or await request.app[QUEUE].reader_of(asker.requester)
    sessions = request.app[READERS].of(reader)
    if sessions.search_path is None:
        try:
            await asyncio.to_thread(sessions.connect)
        except DatabaseError as error:
            log.warning("%s", error)
            raise Problem(
                503,
                f"{reader}, the role that reads for you, cannot log in; the reason has"
                " been logged.",
                headers={"Retry-After": "30"},
            ) from None
    return sessions
