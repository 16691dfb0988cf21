"""The keys of the objects that handlers find in their application, or their request."""

import asyncio

from aiohttp import web

from ..config import Settings
from ..metrics import Metrics
from ..postgres.reader import Readers
from ..queue.calls import Queue
from ..queue.feed import Feed
from ..queue.keyring import Keyring
from ..storage import Directory
from .askers import Asker
from .previews import Previews
from .rates import Rates

ASKER = web.RequestKey("asker", Asker)
SETTINGS = web.AppKey("settings", Settings)
DRAINING = web.AppKey("draining", asyncio.Event)
FEED = web.AppKey("feed", Feed)
KEYRING = web.AppKey("keyring", Keyring)
LOGINS = web.AppKey("logins", frozenset[str])
METRICS = web.AppKey("metrics", Metrics)
PREVIEWS = web.AppKey("previews", Previews)
QUEUE = web.AppKey("queue", Queue)
RATES = web.AppKey("rates", Rates)
READERS = web.AppKey("readers", Readers)
STORAGE = web.AppKey("storage", Directory)
