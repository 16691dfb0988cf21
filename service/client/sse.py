"""Parse Server-Sent Events, as the WHATWG specifies them.

https://html.spec.whatwg.org/multipage/server-sent-events.html.  The parser is
our own: the published clients for aiohttp have had no release since 2023.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

LARGEST_LINE = 16 * 1024 * 1024  # characters; a server that sends more is not ours


@dataclass(frozen=True)
class Event:
    """One event; *id* is the last id that the stream has sent."""

    event: str
    data: str
    id: str


class TooLong(Exception):
    """A line of the stream is longer than `LARGEST_LINE`."""


class Parser:
    """Turn the bytes of a stream, however they are split, into events."""

    def __init__(self) -> None:
        self.retry: float | None = None  # seconds, if the stream has sent it
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._begun = False
        self._after_cr = False
        self._line: list[str] = []
        self._size = 0
        self._event = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that *chunk* completes."""
        text = self._decode(chunk)
        if text and not self._begun:
            self._begun = True
            text = text.removeprefix("\ufeff")
        if text and self._after_cr:
            self._after_cr = False
            text = text.removeprefix("\n")
        self._after_cr |= text.endswith("\r")
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in lines:
            yield from self._take("".join([*self._line, line]))
            self._line, self._size = [], 0
        self._line.append(rest)
        self._size += len(rest)
        if self._size > LARGEST_LINE:
            raise TooLong

    def _take(self, line: str) -> Iterator[Event]:
        if not line:
            if self._data:
                yield Event(self._event or "message", "\n".join(self._data), self._id)
            self._event, self._data = "", []
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._event = value
        elif field == "data":
            self._data.append(value)
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value) / 1000
