"""Send a file that never changes, as RFC 9110 specifies.

aiohttp's `FileResponse` sends it, with sendfile.  But it derives an ETag of its
own from the modification time, answers 206 to a stale `If-Range`, and 416 to
unknown range units.  So the conditional headers are evaluated here, and
`FileResponse` receives a request in which only a satisfiable `Range` is left.
"""

import base64
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from aiohttp import ETag, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from .access import holding
from .problems import Problem

CONDITIONS = (
    hdrs.IF_MATCH,
    hdrs.IF_NONE_MATCH,
    hdrs.IF_MODIFIED_SINCE,
    hdrs.IF_UNMODIFIED_SINCE,
    hdrs.IF_RANGE,
)
Sent = Callable[[int, int], Awaitable[None]]  # takes bytes, and of how many
CONTENT_ETAG = web.ResponseKey("content_etag", ETag)
ONE_RANGE = re.compile(
    r"bytes=[ \t]*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))[ \t]*", re.ASCII | re.IGNORECASE
)


def unreadable(path: Path, size: int) -> str | None:
    """Return why the file cannot be served completely, or None if it can."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return f"{path} does not exist: do all processes share EXPORTS_DIR?"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return None if found == size else f"{path} has {found} bytes instead of {size}"


def send_file(
    request: web.Request,
    path: Path,
    size: int,
    sha256: str,
    name: str,
    media_type: str,
    sent: Sent,
) -> web.StreamResponse:
    """Answer 200, 206, 304, 412 or 416 with the file of *size* and digest *sha256*.

    *sent* hears how much of it went, also if the client did not take all.
    """
    etag = ETag(sha256)
    headers = {
        hdrs.CONTENT_DISPOSITION: _attachment(name),
        hdrs.CONTENT_TYPE: media_type,
        hdrs.CACHE_CONTROL: "private, no-cache",
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:",
        "X-Content-Type-Options": "nosniff",
    }
    if not _matches(request.if_match, etag, weakly=False, absent=True):
        raise Problem(412, "The file does not match If-Match.")
    if _matches(request.if_none_match, etag, weakly=True, absent=False):
        unchanged = web.Response(
            status=304, headers={hdrs.CACHE_CONTROL: "private, no-cache"}
        )
        unchanged.etag = etag
        return unchanged
    clean = CIMultiDict(request.headers)
    for header in CONDITIONS:
        clean.popall(header, None)
    if not _wants_range(request, etag, size):
        clean.popall(hdrs.RANGE, None)
    response = _Download(path, headers=headers)
    response.told = sent
    response[CONTENT_ETAG] = etag
    response.request_headers = clean
    return response


class _Download(web.FileResponse):
    """A `FileResponse` that sees `request_headers` in place of the request's own.

    It tells `told` what went of the body.
    """

    request_headers: CIMultiDict[str]
    told: Sent

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        try:
            assert isinstance(request, web.Request)
            with holding(request):
                writer = await super().prepare(
                    request.clone(headers=self.request_headers)
                )
            if request.method == hdrs.METH_GET and self.content_length == 0:
                await self.told(0, 0)  # of an empty file
            return writer
        except TimeoutError as error:  # the client reads nothing; see `UNREAD`
            raise ConnectionResetError(*error.args) from error

    async def _sendfile(
        self, request: web.BaseRequest, fobj: IO[Any], offset: int, count: int
    ) -> AbstractStreamWriter:
        try:
            return await super()._sendfile(request, fobj, offset, count)
        finally:
            # asyncio leaves the file at the end of what the kernel took; if it took
            # nothing, at its beginning.
            await self.told(max(0, fobj.tell() - offset), count)


async def set_etag(_request: web.Request, response: web.StreamResponse) -> None:
    """Replace the ETag made by `FileResponse` with that of the content."""
    if CONTENT_ETAG in response:
        response.etag = response[CONTENT_ETAG]


def _attachment(name: str) -> str:
    """Return a header that suggests *name*: in ASCII for old clients, and in UTF-8.

    See RFC 6266.
    """
    plain = re.sub(r"[^\w .()+-]", "_", name, flags=re.ASCII)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _matches(
    given: tuple[ETag, ...] | None, ours: ETag, *, weakly: bool, absent: bool
) -> bool:
    if given is None:
        return absent
    return any(
        one.value == "*" or one.value == ours.value and (weakly or not one.is_weak)
        for one in given
    )


def _wants_range(request: web.Request, etag: ETag, size: int) -> bool:
    """Return whether to send a single range; raise 416 if it is outside the file."""
    asked = ONE_RANGE.fullmatch(request.headers.get(hdrs.RANGE, ""))
    if request.method != hdrs.METH_GET or not asked:
        return False  # other units, and several ranges, are ignored: RFC 9110, 14.2
    condition = request.headers.get(hdrs.IF_RANGE)
    if condition is not None and condition.strip() != f'"{etag.value}"':
        return False  # the client has a part of another file: send the whole file
    first, last, suffix = asked.groups()
    if first and last and int(last) < int(first):
        return False  # an invalid range is ignored
    if (int(first) >= size) if first else (int(suffix) == 0 or size == 0):
        raise Problem(
            416,
            f"The file has {size} bytes.",
            headers={hdrs.CONTENT_RANGE: f"bytes */{size}"},
        )
    return True
