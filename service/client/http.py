"""The HTTP interface as methods, and an export as the server's JSON describes it.

Every failure is raised as `Refused`, with the server's message, or as `Away`.
"""

import asyncio
import json
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal, Self
from uuid import UUID

import aiohttp
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)
from pydantic.alias_generators import to_camel
from yarl import URL

from .. import __version__
from .sse import Parser, TooLong

CONNECTING = 10.0  # seconds for a connection to be made
SILENCE = 45.0  # seconds without a byte; an event stream sends something every 15
PATIENCE = 60.0  # seconds for which a server may be unreachable while we watch
POLL = 0.5  # seconds between requests if there is no event stream
PAGE = 1000  # exports in one answer
GATEWAYS = (502, 503, 504)  # the server, or a proxy before it, cannot answer now


class Refused(Exception):
    """The server refused a request; the message is its reason, and *hint* may help.

    *line* and *column*, from 1, are the position of the error in the query.
    """

    def __init__(
        self,
        reason: str,
        hint: str | None = None,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.hint = hint
        self.line = line
        self.column = column


class Away(Exception):
    """The server cannot be reached, or is not a CSV Export Service."""


class Model(BaseModel):
    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, validate_by_name=True
    )


class ExportError(Model):
    message: str
    hint: str | None = None
    detail: str | None = None


class Column(Model):
    name: str


class Export(Model):
    """The members of an export's JSON that the commands need; `shown` is all of it."""

    id: UUID = Field(alias="jobId")
    status: Literal["pending", "processing", "completed", "failed", "cancelled"]
    place: int | None = None
    waits_for: str | None = None
    progress: int
    rows: int
    bytes: int
    estimated_rows: int = 0
    rows_per_second: int | None = None
    eta_seconds: int | None = None
    source: str | None
    format: str
    compression: str
    delimiter: str | None
    header: bool | None
    bom: bool | None
    sha256: str | None
    result_columns: list[Column] | None
    error: ExportError | None
    attempt: int
    run_at: AwareDatetime
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    expires_at: AwareDatetime | None = None
    _shown: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def of(cls, shown: dict[str, Any]) -> Self:
        """Return the export in a server's JSON; raise `Away` if it is not an export."""
        try:
            export = cls.model_validate(shown)
        except ValidationError:
            raise Away("the server is not a CSV Export Service") from None
        export._shown.update(shown)
        return export

    @property
    def shown(self) -> dict[str, Any]:
        return self._shown

    @property
    def name(self) -> str:
        """The name to show to people: the relation, or "query"."""
        return self.source or "query"

    @property
    def ended(self) -> bool:
        return self.status not in ("pending", "processing")

    @property
    def bytes_per_second(self) -> float:
        """The mean speed: the server's rows per second times the mean size of a row."""
        return self.bytes * (self.rows_per_second or 0) / max(self.rows, 1)


class Client:
    """A session with the server at *url*, with *key* if it wants one.

    Use it in an `async with`.
    """

    def __init__(self, url: URL, key: str | None = None) -> None:
        self.url = url
        headers = {"User-Agent": f"csv-export-service/{__version__}"}
        if key is not None and url.user is not None:
            raise Refused(
                "a key and a user in the URL cannot be sent together",
                "leave out the user, or log out",
            )
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._http = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECTING, sock_read=SILENCE
            ),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def submit(self, wanted: dict[str, Any], key: str | None = None) -> Export:
        """Create an export; if *key* was used before, return the export of that time."""
        headers = {"Idempotency-Key": key} if key is not None else {}
        return Export.of(
            await self._json("POST", "exports", json=wanted, headers=headers)
        )

    async def preview(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Return the preview of an export: its SELECT and its first rows."""
        shown: dict[str, Any] = await self._json(
            "POST", "exports", json=wanted, params={"dryRun": "true"}
        )
        return shown

    async def get(self, id: UUID) -> Export:
        return Export.of(await self._json("GET", f"exports/{id}"))

    async def page(self, limit: int, **restrictions: str | None) -> list[Export]:
        """Return the newest exports, page after page, up to *limit*."""
        return [
            Export.of(one) for one in await self._pages("exports", limit, restrictions)
        ]

    async def me(self) -> dict[str, Any]:
        """Return whom the key speaks for, and its scopes; both are None without AUTH."""
        shown: dict[str, Any] = await self._json("GET", "me")
        return shown

    async def sources(self) -> list[dict[str, Any]]:
        async with self._answer("GET", self.url / "sources") as answer:
            with self._reaching():
                found: list[dict[str, Any]] = (await answer.json())["sources"]
                return found

    async def cancel(self, id: UUID) -> Export:
        return Export.of(await self._json("POST", f"exports/{id}/cancel"))

    async def retry(self, id: UUID) -> Export:
        return Export.of(await self._json("POST", f"exports/{id}/retry"))

    async def delete(self, id: UUID) -> None:
        async with self._answer("DELETE", self.url / f"exports/{id}"):
            pass

    async def link(self, id: UUID, seconds: int | None) -> dict[str, Any]:
        """Make a link that downloads the file without a key, for *seconds*."""
        wanted = {} if seconds is None else {"expiresIn": seconds}
        made: dict[str, Any] = await self._json(
            "POST", f"exports/{id}/links", json=wanted
        )
        with self._reaching():
            url = self.url.with_user(None) / made["url"].lstrip("/")
        return made | {"url": str(url)}

    async def activity(
        self, limit: int, **restrictions: str | None
    ) -> list[dict[str, Any]]:
        """Return the newest activities, page after page, up to *limit*."""
        return await self._pages("activity", limit, restrictions)

    async def _pages(
        self, name: str, limit: int, restrictions: dict[str, str | None]
    ) -> list[dict[str, Any]]:
        """Return up to *limit* of the list *name*, which is also its path and member."""
        given = {name: value for name, value in restrictions.items() if value}
        found: list[dict[str, Any]] = []
        url = (self.url / name).with_query(given | {"limit": min(limit, PAGE)})
        while True:
            async with self._answer("GET", url) as answer:
                with self._reaching():
                    found += (await answer.json())[name]
                following = answer.links.get("next")
            if len(found) >= limit or not following:
                return found[:limit]
            url = url.update_query(cursor=URL(following["url"]).query["cursor"])

    def download_url(self, id: UUID) -> URL:
        return self.url / f"exports/{id}/download"

    async def suggested_name(self, export: Export) -> str:
        """Return the server's name for the file; it must not be trusted as a path."""
        url = self.download_url(export.id)
        try:
            async with self._answer("HEAD", url) as answer:
                suggested = answer.content_disposition
        except Refused:  # the answer to a HEAD has no body, and so no reason
            async with self._answer("GET", url):
                raise
        return (suggested and suggested.filename) or f"{export.id}.{export.format}"

    async def download(self, export: Export, start: int) -> AsyncIterator[bytes]:
        """Yield the file from byte *start* on, until it ends or the connection breaks."""
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": f'"{export.sha256}"'}
        url = self.download_url(export.id)
        async with self._answer("GET", url, headers=headers) as answer:
            skip = start if answer.status == 200 else 0  # 200 sends the whole file
            async for chunk in self._chunks(answer):
                yield chunk[skip:]
                skip = max(0, skip - len(chunk))

    async def watch(self, id: UUID) -> AsyncIterator[Export | None]:
        """Yield the current state of the export, each change, and its end.

        A broken stream is replaced.  The server may be unreachable for up to
        `PATIENCE`; each failed attempt to reach it yields None.
        """
        tries = _Tries()
        tries.succeeded()
        while True:
            try:
                async for event, data in self._events(f"exports/{id}/events", tries):
                    if event != "deleted":
                        export = Export.of(data)
                        yield export
                        if export.ended:
                            return
                export = await self.get(id)
                tries.succeeded()
                yield export
                if export.ended:
                    return
            except Away as error:
                tries.failed(error)
                yield None
            await asyncio.sleep(tries.pause)

    async def watch_all(self) -> AsyncIterator[Export | UUID | None]:
        """Yield the exports that have not ended, all changes, and ids of deleted ones.

        It does not end by itself.  The server may be unreachable as in `watch`.
        """
        tries = _Tries()
        running: dict[UUID, Export] = {}
        while True:
            try:
                async for event, data in self._events("events", tries):
                    if event == "deleted":
                        running.pop(UUID(data["jobId"]), None)
                        yield UUID(data["jobId"])
                    else:
                        export = Export.of(data)
                        running[export.id] = export
                        if export.ended:
                            del running[export.id]
                        yield export
                now = {export.id: export for export in await self._running()}
                tries.succeeded()
                for id in running.keys() - now.keys():
                    yield await self._ended(id)
                for export in now.values():
                    yield export
                running = now
            except Away as error:
                tries.failed(error)
                yield None
            await asyncio.sleep(tries.pause)

    async def _running(self) -> list[Export]:
        pending = await self.page(PAGE, status="pending")
        return [*await self.page(PAGE, status="processing"), *reversed(pending)]

    async def _ended(self, id: UUID) -> Export | UUID:
        try:
            return await self.get(id)
        except Refused:
            return id

    async def _events(
        self, path: str, tries: "_Tries"
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield events and their data until the stream ends, breaks or is refused."""
        if not tries.stream:
            return
        parser = Parser()
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        try:
            async with self._answer("GET", self.url / path, headers=headers) as answer:
                if answer.content_type != "text/event-stream":
                    tries.stream = answer.status == 204  # there is nothing more to send
                    return
                async for chunk in self._chunks(answer):
                    for event in parser.feed(chunk):
                        tries.succeeded()
                        yield event.event, json.loads(event.data)
                    tries.pause = parser.retry or tries.pause
        except (Refused, TooLong, ValueError):
            tries.stream, tries.pause = False, POLL
        except Away:
            pass  # the next request shows whether the server can be reached

    async def _json(self, method: str, path: str, **options: Any) -> Any:
        async with self._answer(method, self.url / path, **options) as answer:
            with self._reaching():
                return await answer.json()

    @asynccontextmanager
    async def _answer(
        self, method: str, url: URL, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield a successful answer before its body is read; raise for all others."""
        with self._reaching():
            answer = await self._http.request(method, url, **options)
        async with answer:
            if answer.status >= 300:
                with self._reaching():
                    await self._refuse(answer)
            yield answer

    async def _chunks(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        with self._reaching():
            async for chunk in answer.content.iter_any():
                yield chunk

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Raise `Away` for errors of the connection, and for answers we cannot read."""
        where = self.url.with_user(None)
        try:
            yield
        except TimeoutError:
            raise Away(f"{where} does not answer") from None
        except (aiohttp.ContentTypeError, ValueError, LookupError, TypeError):
            raise Away(f"the server at {where} is not a CSV Export Service") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Away(f"{where} cannot be reached: {_reason(error)}") from None

    async def _refuse(self, answer: aiohttp.ClientResponse) -> None:
        problem: dict[str, Any] = {}
        if answer.content_type == "application/problem+json":
            problem = json.loads(await answer.read() or b"{}")
        said = f"{answer.status} {answer.reason}"
        reason = str(problem.get("detail") or problem.get("title") or said)
        if answer.status in GATEWAYS:
            raise Away(f"{self.url.with_user(None)} is not ready: {reason}")
        if answer.status == 401:
            raise Refused(
                reason, "log in with 'csv-export login', or set CSV_EXPORT_KEY"
            )
        raise Refused(
            reason, problem.get("hint"), problem.get("line"), problem.get("column")
        )


class _Tries:
    """The state of watching a server that may be unreachable for a while."""

    def __init__(self) -> None:
        self.stream = True
        self.pause = POLL
        self._since = float("-inf")

    def succeeded(self) -> None:
        self._since = time.monotonic()

    def failed(self, error: Away) -> None:
        """Raise *error* if the last success is more than `PATIENCE` ago."""
        if time.monotonic() - self._since > PATIENCE:
            raise error


def _reason(error: Exception) -> str:
    """Return a short reason, without addresses and error numbers."""
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    if isinstance(error, (socket.gaierror, ssl.SSLError)):
        return str(error.strerror or error).lower()
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return (str(error) or type(error).__name__).lower()
