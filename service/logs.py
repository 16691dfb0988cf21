"""How the process logs: lines of text, or a JSON object on each line."""

import logging
import re
import sys
from typing import Any

from pythonjsonlogger.json import JsonFormatter

log = logging.getLogger(__name__)

# What a terminal obeys, and all that may begin a line.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class PlainFormatter(logging.Formatter):
    """What others wrote can neither begin a line nor colour it.

    A record is one line; those of its trace, if it has one, begin with blanks.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        return _escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  {_escaped(line)}" for line in lines)


def _escaped(text: str) -> str:
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def start(how: str) -> None:
    """Log to standard error, as "text" or "json"; a trace of the end, too."""
    handler = logging.StreamHandler()
    if how == "json":
        handler.setFormatter(
            JsonFormatter("{asctime}{levelname}{name}{message}", style="{")
        )
        sys.excepthook = lambda *error: log.critical("unforeseen", exc_info=error)
        logging.captureWarnings(True)
    else:
        handler.setFormatter(
            PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
        )
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


def are_json() -> bool:
    """Is every line an object?"""
    handlers = logging.getLogger().handlers
    return any(isinstance(one.formatter, JsonFormatter) for one in handlers)
