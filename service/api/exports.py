"""Submit, watch, cancel, download."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..queue import Export, Status
from .download import send_file
from .keys import QUEUE, SETTINGS, STORAGE
from .problems import Problem

routes = web.RouteTableDef()

CANONICAL_ID = TypeAdapter(UUID)


class ExportRequest(BaseModel):
    """What to export: a relation, perhaps some of its columns, or a query.

    Nothing at all means the default source.  PostgreSQL checks the rest.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    source: str | None = None
    columns: list[str] | None = None
    query: str | None = None


class PageRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    status: Status | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    cursor: str | None = None


@routes.post("/exports")
async def submit(request: web.Request) -> web.Response:
    body = await request.read()
    if body and request.content_type != "application/json":
        raise Problem(415, "The body is JSON; say so: Content-Type: application/json.")
    wanted = ExportRequest.model_validate_json(body) if body else ExportRequest()
    if wanted.source is None and wanted.query is None:
        default = request.app[SETTINGS].default_source
        wanted = wanted.model_copy(update={"source": default})
    export = await request.app[QUEUE].submit(**wanted.model_dump())
    headers = {"Location": f"/exports/{export.id}", "Retry-After": "1"}
    return _json(export, status=202, headers=headers)


@routes.get("/exports")
async def list_exports(request: web.Request) -> web.Response:
    wanted = PageRequest.model_validate(dict(request.query))
    before = _decode(wanted.cursor) if wanted.cursor is not None else None
    found = await request.app[QUEUE].page(wanted.limit + 1, wanted.status, before)
    page = found[: wanted.limit]
    headers = {}
    if len(found) > len(page):
        following = request.rel_url.update_query(cursor=_encode(page[-1]))
        headers["Link"] = f'<{following}>; rel="next"'
    shown = ",".join(export.model_dump_json(by_alias=True) for export in page)
    return web.Response(
        text=f'{{"exports":[{shown}]}}',
        content_type="application/json",
        headers=headers,
    )


@routes.get("/exports/{id}")
async def show(request: web.Request) -> web.Response:
    export = await _find(request)
    return _json(export, headers={} if export.ended else {"Retry-After": "1"})


@routes.post("/exports/{id}/cancel")
async def cancel(request: web.Request) -> web.Response:
    status = await request.app[QUEUE].cancel(_id(request))
    export = await _find(request)
    if status is not Status.CANCELLED:
        raise Problem(409, f"The export is {status} and can no longer be cancelled.")
    return _json(export)


@routes.post("/exports/{id}/retry")
async def retry(request: web.Request) -> web.Response:
    before = await _find(request)
    if before.status not in (Status.FAILED, Status.CANCELLED):
        raise Problem(
            409,
            f"The export is {before.status}: only what ended without a file can be retried.",
        )
    await request.app[QUEUE].retry(before.id)
    return _json(await _find(request), status=202, headers={"Retry-After": "1"})


@routes.get("/exports/{id}/download")
async def download(request: web.Request) -> web.StreamResponse:
    export = await _find(request)
    if not export.ended:
        raise Problem(
            409,
            f"The export is {export.status}; there is no file yet.",
            headers={"Retry-After": "1"},
        )
    if export.expires_at and export.expires_at <= datetime.now(UTC):
        raise Problem(410, f"The file was kept until {export.expires_at:%F %T %Z}.")
    if export.file_path is None or export.sha256 is None:
        reason = f": {export.error.message}" if export.error else ""
        raise Problem(409, f"The export is {export.status}{reason}; there is no file.")
    path = request.app[STORAGE].path(export.file_path)
    if not path.is_file():
        raise Problem(410, "The file is gone.")
    name = f"{export.source or 'query'}-{export.created_at:%Y-%m-%d}.csv"
    return send_file(request, path, export.sha256, name)


async def _find(request: web.Request) -> Export:
    id = _id(request)
    if (export := await request.app[QUEUE].get(id)) is None:
        raise Problem(404, f"There is no export {id}.")
    return export


def _id(request: web.Request) -> UUID:
    given = request.match_info["id"]
    try:
        return CANONICAL_ID.validate_python(given)
    except ValidationError:
        raise Problem(
            404, f"{given!r} is not the id of an export: that is a UUID."
        ) from None


def _json(
    export: Export, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    return web.Response(
        status=status,
        text=export.model_dump_json(by_alias=True),
        content_type="application/json",
        headers=headers,
    )


def _encode(last: Export) -> str:
    return base64.urlsafe_b64encode(
        f"{last.created_at.isoformat()} {last.id}".encode()
    ).decode()


def _decode(cursor: str) -> tuple[datetime, UUID]:
    try:
        at, id = base64.urlsafe_b64decode(cursor).decode().split(" ")
        return datetime.fromisoformat(at), UUID(id)
    except (binascii.Error, UnicodeError, ValueError):
        raise Problem(422, "The cursor is not one that we gave out.") from None
