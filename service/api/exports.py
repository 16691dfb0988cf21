"""The resource /exports: submit, list, show, cancel, retry, download and delete."""

import asyncio
import logging
from typing import Any
from uuid import UUID

import psycopg
from aiohttp import web
from psycopg.errors import ConfigurationLimitExceeded, QueryCanceled
from pydantic import TypeAdapter, ValidationError

from ..copying import preview
from ..copying.command import unique_names
from ..model import Export, Status
from ..postgres.reader import Sessions
from ..queue.calls import KeyReused
from . import cursors
from .access import who
from .bodies import answer, members
from .download import send_file, unreadable
from .keys import ASKER, PREVIEWS, QUEUE, RATES, READERS, SETTINGS, STORAGE
from .models import ExportRequest, IdempotencyKey, PageRequest, Preview, SubmitOptions
from .problems import Problem, refused, refusing
from .readers import sessions_of

log = logging.getLogger(__name__)

routes = web.RouteTableDef()

KEY = TypeAdapter(IdempotencyKey)
PREVIEW_ROWS = 10
CHARSETS = {
    "UTF8": "utf-8", "UTF-16LE": "utf-16",
    "LATIN1": "iso-8859-1", "LATIN2": "iso-8859-2", "LATIN3": "iso-8859-3",
    "LATIN4": "iso-8859-4", "LATIN5": "iso-8859-9", "LATIN6": "iso-8859-10",
    "LATIN7": "iso-8859-13", "LATIN8": "iso-8859-14", "LATIN9": "iso-8859-15",
    "LATIN10": "iso-8859-16", "ISO_8859_5": "iso-8859-5", "ISO_8859_6": "iso-8859-6",
    "ISO_8859_7": "iso-8859-7", "ISO_8859_8": "iso-8859-8",
    "WIN866": "ibm866", "WIN874": "windows-874", "WIN1250": "windows-1250",
    "WIN1251": "windows-1251", "WIN1252": "windows-1252", "WIN1253": "windows-1253",
    "WIN1254": "windows-1254", "WIN1255": "windows-1255", "WIN1256": "windows-1256",
    "WIN1257": "windows-1257", "WIN1258": "windows-1258",
    "KOI8R": "koi8-r", "KOI8U": "koi8-u", "EUC_JP": "euc-jp", "SJIS": "shift_jis",
    "EUC_KR": "euc-kr", "EUC_CN": "gb2312", "GBK": "gbk", "GB18030": "gb18030",
    "BIG5": "big5",
}  # fmt: skip
CANONICAL_ID = TypeAdapter(UUID)


@routes.post("/exports")
async def submit(request: web.Request) -> web.Response:
    wanted = await _wanted(request)
    with refusing():
        options = SubmitOptions.of(request.query)
        key = KEY.validate_python(request.headers.get("Idempotency-Key"))
    sessions = await sessions_of(request)
    values = wanted.values(request.app[SETTINGS].default_source, sessions.search_path)
    if options.dry_run:
        await request.app[RATES].spend(request, request[ASKER].requester, "previews")
        with refused(wanted.query):
            return await _preview(request, values, sessions)
    try:
        with refused(wanted.query):
            export = await request.app[QUEUE].submit(values, key, who(request))
    except KeyReused:
        raise Problem(
            "key-reused", "This Idempotency-Key was used for another request before."
        ) from None
    headers = {"Location": f"/exports/{export.id}", "Retry-After": "1"}
    return answer(export, status=202, headers=headers)


@routes.get("/exports")
async def list_exports(request: web.Request) -> web.Response:
    with refusing():
        wanted = PageRequest.of(request.query)
    restrictions = wanted.restrictions()
    if (whose := request[ASKER].sees) is not None:
        if wanted.requested_by not in (None, whose):
            return web.json_response({"exports": []})
        restrictions["requested_by"] = whose
    if wanted.cursor is not None:
        restrictions |= cursors.decode(wanted.cursor, UUID)
    found = await request.app[QUEUE].page(wanted.limit + 1, **restrictions)
    page = found[: wanted.limit]
    headers = {}
    if len(found) > len(page):
        headers = cursors.following(request, page[-1].created_at, page[-1].id)
    shown = ",".join(export.model_dump_json(by_alias=True) for export in page)
    return web.Response(
        text=f'{{"exports":[{shown}]}}',
        content_type="application/json",
        headers=headers,
    )


@routes.get("/exports/{id}")
async def show(request: web.Request) -> web.Response:
    export = await find(request)
    return answer(export, headers={} if export.ended else {"Retry-After": "1"})


@routes.post("/exports/{id}/cancel")
async def cancel(request: web.Request) -> web.Response:
    before = await find(request)
    status = await request.app[QUEUE].cancel(before.id, who(request))
    export = await find(request)
    if status is not Status.CANCELLED:
        raise Problem(
            "ended", f"The export is {status} and can no longer be cancelled."
        )
    return answer(export)


@routes.post("/exports/{id}/retry")
async def retry(request: web.Request) -> web.Response:
    before = await find(request)
    if before.status not in (Status.FAILED, Status.CANCELLED):
        raise Problem(
            "ended" if before.ended else "not-ended",
            f"The export is {before.status}; only failed and cancelled exports can be"
            " retried.",
        )
    await request.app[QUEUE].retry(before.id, who(request))
    return answer(await find(request), status=202, headers={"Retry-After": "1"})


@routes.get("/exports/{id}/download")
async def download(request: web.Request) -> web.StreamResponse:
    return await send(request, await find(request))


@routes.delete("/exports/{id}")
async def delete(request: web.Request) -> web.Response:
    id = (await find(request)).id
    file = await request.app[QUEUE].delete(id, who(request))
    if file is None:
        raise Problem(404, f"There is no export {id}.")
    if file:
        await asyncio.to_thread(request.app[STORAGE].delete, file)
    return web.Response(status=204)


async def _wanted(request: web.Request) -> ExportRequest:
    with refusing():
        wanted = ExportRequest.model_validate(await members(request))
    most = request.app[SETTINGS].max_query_bytes
    if wanted.query and len(wanted.query.encode()) > most:
        raise Problem(
            "invalid",
            f"query: longer than MAX_QUERY_BYTES, which is {most:,} bytes",
        )
    return wanted


async def _preview(
    request: web.Request, values: dict[str, Any], sessions: Sessions
) -> web.Response:
    """Answer with the SELECT, its columns and its first rows; store nothing."""
    export = await request.app[QUEUE].dry_run(values, who(request))
    if export.reader != sessions.reader:  # since then the requester has another one
        sessions = request.app[READERS].of(export.reader)
    try:
        columns, rows = await request.app[PREVIEWS].make(
            preview.first_rows,
            sessions,
            export.sql_text,
            export,
            PREVIEW_ROWS,
            export.search_path,
            export.settings,
        )
    except ConfigurationLimitExceeded as error:
        raise Problem(  # temp_file_limit of the reader
            "refused",
            error.diag.message_primary or str(error),
            sqlstate=error.sqlstate,
        ) from None
    except QueryCanceled:
        raise Problem(
            "slow-preview",
            f"The first rows were not found within {preview.PATIENCE:g} seconds."
            " The export can still be started.",
            hint="An index on the filtered and sorted columns may help, or no sorting.",
        ) from None
    shown = Preview(
        select=export.sql_text,
        estimated_rows=export.estimated_rows,
        # Duplicate names are numbered as in the rows, which are JSON objects.
        columns=[
            column.model_dump() | {"name": name}
            for column, name in zip(columns, unique_names(columns))
        ],
        rows=rows,
    )
    return answer(shown)


def require_file(export: Export) -> tuple[str, str]:
    """Return the name and the SHA-256 of the file; raise a problem if there is none."""
    if not export.ended:
        raise Problem(
            "not-ended",
            f"The export is {export.status}; there is no file yet.",
            headers={"Retry-After": "1"},
        )
    if export.expired and export.expires_at:
        raise Problem(
            "expired", f"The file was kept until {export.expires_at:%F %T %Z}."
        )
    if export.file_path is None or export.sha256 is None:
        reason = f": {export.error.message}" if export.error else ""
        raise Problem(
            "no-file", f"The export is {export.status}{reason}; there is no file."
        )
    return export.file_path, export.sha256


async def send(request: web.Request, export: Export) -> web.StreamResponse:
    """Answer with the file of *export*; log how much of it went."""
    name, sha256 = require_file(export)

    async def sent(bytes: int, of: int) -> None:
        link = request[ASKER].link
        detail = ({"link": link} if link else {}) | ({"of": of} if bytes < of else {})
        try:
            await request.app[QUEUE].log(
                "downloaded", who(request), export=export, bytes=bytes, detail=detail
            )
        except psycopg.Error as error:
            log.warning("a download of %s could not be logged: %s", export.id, error)

    path = request.app[STORAGE].path(name)
    problem = await asyncio.to_thread(unreadable, path, export.bytes)
    if problem:
        log.error("export %s is completed, but %s", export.id, problem)
        raise Problem(
            503,
            "This server cannot read the file; the reason has been logged.",
            headers={"Retry-After": "30"},
        )
    return send_file(
        request,
        path,
        export.bytes,
        sha256,
        _name(export),
        _media_type(export),
        sent,
    )


def _name(export: Export) -> str:
    """Return the file name to suggest to the client."""
    if export.file_name:
        return export.file_name
    assert export.file_path
    extension = export.file_path.partition(".")[2]
    return f"{export.source or 'query'}-{export.created_at:%Y-%m-%d}.{extension}"


def _media_type(export: Export) -> str:
    match export.compression, export.format:
        case ("none", "csv"):
            header = "present" if export.header else "absent"
            return f"text/csv{_charset(export.encoding)}; header={header}"
        case ("none", "tsv"):
            return f"text/tab-separated-values{_charset(export.encoding)}"
        case ("none", _):
            return "application/jsonl; charset=utf-8"
        case (compression, _):
            return f"application/{compression}"
    raise AssertionError(export.compression)


def _charset(encoding: str) -> str:
    """Return the charset parameter with the IANA name of PostgreSQL's *encoding*."""
    name = CHARSETS.get(encoding)
    return f"; charset={name}" if name else ""


async def find(request: web.Request) -> Export:
    """Return the export in the path, if it exists for who asks; else raise a 404."""
    id = _id(request)
    export = await request.app[QUEUE].get(id)
    if export is None or not request[ASKER].may_see(export):
        raise Problem(404, f"There is no export {id}.")
    return export


def _id(request: web.Request) -> UUID:
    given = request.match_info["id"]
    try:
        return CANONICAL_ID.validate_python(given)
    except ValidationError:
        raise Problem(
            404, f"{given!r} is not the id of an export; the ids are UUIDs."
        ) from None
