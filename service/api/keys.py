"""What the handlers find in their application."""

import asyncio

from aiohttp import web

from ..config import Settings
from ..db import Sources
from ..events import Events
from ..metrics import Metrics
from ..queue import Queue
from ..storage import Directory
from .previews import Previews

SETTINGS = web.AppKey("settings", Settings)
DRAINING = web.AppKey("draining", asyncio.Event)
EVENTS = web.AppKey("events", Events)
METRICS = web.AppKey("metrics", Metrics)
PREVIEWS = web.AppKey("previews", Previews)
QUEUE = web.AppKey("queue", Queue)
SOURCES = web.AppKey("sources", Sources)
STORAGE = web.AppKey("storage", Directory)
