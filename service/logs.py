"""Set up logging: as lines of text, or as one JSON object per line."""

import logging
import re
import sys
from typing import Any

from pythonjsonlogger.json import JsonFormatter

log = logging.getLogger(__name__)

# Characters that control a terminal, or that may begin a new line.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class PlainFormatter(logging.Formatter):
    """Write each record as one line, with control characters escaped.

    So text from outside can neither begin a line of its own nor control the
    terminal.  The lines of a traceback are indented.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        return _escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  {_escaped(line)}" for line in lines)


def _escaped(text: str) -> str:
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def start(how: str) -> None:
    """Log to standard error as *how* says, "text" or "json".

    In JSON, warnings and the exception that ends the process are log lines, too.
    """
    handler = logging.StreamHandler()
    if how == "json":
        handler.setFormatter(
            JsonFormatter("{asctime}{levelname}{name}{message}", style="{")
        )
        sys.excepthook = lambda *error: log.critical(
            "unhandled exception", exc_info=error
        )
        logging.captureWarnings(True)
    else:
        handler.setFormatter(
            PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
        )
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


def are_json() -> bool:
    """Return whether log lines are JSON objects."""
    handlers = logging.getLogger().handlers
    return any(isinstance(one.formatter, JsonFormatter) for one in handlers)
