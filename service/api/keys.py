"""What the handlers find in their application."""

from aiohttp import web

from ..config import Settings
from ..db import Sources
from ..events import Events
from ..metrics import Metrics
from ..queue import Queue
from ..storage import Directory

SETTINGS = web.AppKey("settings", Settings)
EVENTS = web.AppKey("events", Events)
METRICS = web.AppKey("metrics", Metrics)
QUEUE = web.AppKey("queue", Queue)
SOURCES = web.AppKey("sources", Sources)
STORAGE = web.AppKey("storage", Directory)
