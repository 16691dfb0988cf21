"""The description of this interface, made from the models that validate it."""

import json
from functools import cache
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .. import __version__
from ..model import Export, Source
from .access import COOKIE, NEEDS
from .keys import SETTINGS
from .models import (
    REQUESTER,
    ActivityList,
    ActivityPage,
    ActivityRequest,
    Event,
    ExportList,
    ExportRequest,
    Health,
    KeyList,
    KeyRequest,
    LinkList,
    LinkRequest,
    MadeKey,
    MadeLink,
    Me,
    PageRequest,
    Preview,
    ProblemDetails,
    Requester,
    RequesterChange,
    RequesterList,
    SourceList,
    SubmitOptions,
)

routes = web.RouteTableDef()

JSON = "application/json"
PROBLEM = "application/problem+json"
REF = "#/components/schemas/{model}"
ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
}
LINK_ID = ID | {"name": "link", "schema": {"type": "string"}}
TOKEN = ID | {"name": "token", "schema": {"type": "string"}}
KEY_ID = ID | {"schema": {"type": "string"}}
REQUESTER_NAME = ID | {
    "name": "name",
    "schema": {"type": "string", "pattern": REQUESTER},
}
KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "maxLength": 255, "pattern": "^[!-~]+$"},
    "description": "The same key with the same request answers the first export again.",
}
RANGE = {
    "name": "Range",
    "in": "header",
    "schema": {"type": "string", "examples": ["bytes=0-499"]},
    "description": "RFC 9110, 14.2; other units, and several ranges, are ignored.",
}
BYTES = {"type": "string", "format": "binary"}
FILES = (
    "application/octet-stream",  # first, since clients are generated from the first
    "text/csv",
    "text/tab-separated-values",
    "application/jsonl",
    "application/gzip",
    "application/zstd",
)
STREAM = {
    "description": "Server-Sent Events, the present state first",
    "content": {"text/event-stream": {"schema": {"$ref": REF.format(model="Event")}}},
}
OF_ONE_EXPORT = (
    "showExport", "cancelExport", "retryExport", "downloadExport", "deleteExport"
)  # fmt: skip
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE},
}
PROBLEMS = {
    400: "The body is not JSON.",
    401: "A key is needed, or it is not accepted.",
    403: "A scope is missing, or another web page has sent the request.",
    404: "There is no such export, key or link.",
    405: "The method is not known here.",
    408: "The body did not arrive in time.",
    409: "It cannot be done as things are, for example after the end of an export.",
    410: "The file has expired.",
    412: "The file does not match If-Match.",
    413: "The body is too large.",
    415: "The body is not JSON, or it is compressed.",
    416: "The range lies outside the file.",
    421: "The service does not answer for that Host.",
    422: "It cannot be done as asked; `detail` is PostgreSQL's message where it is its.",
    429: "Too many exports are waiting.",
    503: "The database is away, or the service is busy.",
}


@routes.get("/openapi.json")
async def describe(request: web.Request) -> web.Response:
    asks_for_keys = request.app[SETTINGS].auth in ("keys", "proxy")
    return web.json_response(text=_described(asks_for_keys))


@cache
def _described(asks_for_keys: bool) -> str:
    return json.dumps(description(asks_for_keys))


def description(asks_for_keys: bool = True) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    document = _without_keys()
    if asks_for_keys:
        document["components"]["securitySchemes"] = SCHEMES
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                need = NEEDS.get((method.upper(), path), "nothing")
                if need != "nothing":
                    scopes = [] if need == "any" else [need]
                    operation["security"] = [{name: scopes} for name in SCHEMES]
                    operation["responses"] |= _refused(401, 403)
    return document


def _without_keys() -> dict[str, Any]:
    _, schemas = models_json_schema(
        [
            (ExportRequest, "validation"),
            (Export, "serialization"),
            (Source, "serialization"),
            (ActivityList, "serialization"),
            (Preview, "serialization"),
            (ExportList, "serialization"),
            (SourceList, "serialization"),
            (Health, "validation"),
            (Me, "serialization"),
            (KeyRequest, "validation"),
            (MadeKey, "serialization"),
            (KeyList, "serialization"),
            (RequesterChange, "validation"),
            (Requester, "serialization"),
            (RequesterList, "serialization"),
            (LinkRequest, "validation"),
            (MadeLink, "serialization"),
            (LinkList, "serialization"),
            (Event, "serialization"),
            (ProblemDetails, "validation"),
        ],
        by_alias=True,
        ref_template=REF,
    )
    export = _json(Export)
    following = {"headers": {"Link": _header("string", 'rel="next"')}}
    activity = _json(ActivityList) | following
    later = {"Retry-After": _header("integer", "seconds until it is worth asking")}
    file = {
        200: _file("The file"),
        206: _file("A part of it"),
        304: {"description": "It is what If-None-Match names"},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "CSV Export Service",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/health": {
                "get": _operation(
                    "getHealth",
                    "Is the service able to work?",
                    {200: _json(Health)},
                    (503,),
                )
            },
            "/health/live": {
                "get": _operation(
                    "getLiveness",
                    "Is the process alive?",
                    {200: _json(Health)},
                    (),
                )
            },
            "/health/ready": {
                "get": _operation(
                    "getReadiness",
                    "Is the process ready for requests?",
                    {200: _json(Health)},
                    (503,),
                )
            },
            "/exports": {
                "post": _operation(
                    "submitExport",
                    "Submit an export",
                    {
                        200: _json(Preview) | {"description": "With dryRun"},
                        202: export
                        | {
                            "headers": later
                            | {"Location": _header("string", "its URL")},
                            "links": {
                                name: {
                                    "operationId": name,
                                    "parameters": {"id": "$response.body#/jobId"},
                                }
                                for name in OF_ONE_EXPORT
                            },
                        },
                    },
                    (400, 403, 408, 413, 415, 422, 429, 503),
                    parameters=[KEY, *_query(SubmitOptions)],
                    requestBody={"content": {JSON: {"schema": _ref(ExportRequest)}}},
                ),
                "get": _operation(
                    "listExports",
                    "List exports, newest first",
                    {200: _json(ExportList) | following},
                    (422, 503),
                    parameters=_query(PageRequest),
                ),
            },
            "/exports/{id}": {
                "parameters": [ID],
                "get": _operation(
                    "showExport", "Show an export", {200: export}, (404, 503)
                ),
                "delete": _operation(
                    "deleteExport",
                    "Delete an export and its file",
                    {204: {"description": "Both are gone"}},
                    (403, 404, 503),
                ),
            },
            "/exports/{id}/cancel": {
                "parameters": [ID],
                "post": _operation(
                    "cancelExport",
                    "Cancel an export",
                    {200: export},
                    (403, 404, 409, 503),
                ),
            },
            "/exports/{id}/retry": {
                "parameters": [ID],
                "post": _operation(
                    "retryExport",
                    "Start a failed or cancelled export again",
                    {202: export},
                    (403, 404, 409, 422, 503),
                ),
            },
            "/exports/{id}/download": {
                "parameters": [ID],
                "get": _operation(
                    "downloadExport",
                    "Download the file",
                    file,
                    (404, 409, 410, 412, 416, 503),
                    parameters=[RANGE],
                ),
            },
            "/exports/{id}/links": {
                "parameters": [ID],
                "get": _operation(
                    "listLinks",
                    "List the links to the file, newest first",
                    {200: _json(LinkList)},
                    (404, 503),
                ),
                "post": _operation(
                    "createLink",
                    "Make a link that downloads the file without a key",
                    {201: _json(MadeLink)},
                    (400, 403, 404, 408, 409, 410, 413, 415, 422, 503),
                    requestBody={"content": {JSON: {"schema": _ref(LinkRequest)}}},
                ),
            },
            "/exports/{id}/links/{link}": {
                "parameters": [ID, LINK_ID],
                "delete": _operation(
                    "revokeLink",
                    "Let a link lead nowhere",
                    {204: {"description": "It is revoked"}},
                    (403, 404, 503),
                ),
            },
            "/links/{token}": {
                "parameters": [TOKEN],
                "get": _operation(
                    "followLink",
                    "Download a file by a link",
                    file,
                    (404, 412, 416, 503),
                    parameters=[RANGE],
                ),
            },
            "/exports/{id}/activity": {
                "parameters": [ID],
                "get": _operation(
                    "listActivityOfExport",
                    "List what was done with an export, newest first",
                    {200: activity},
                    (404, 422, 503),
                    parameters=_query(ActivityPage),
                ),
            },
            "/activity": {
                "get": _operation(
                    "listActivity",
                    "List what was done, newest first",
                    {200: activity},
                    (422, 503),
                    parameters=_query(ActivityRequest),
                )
            },
            "/exports/{id}/events": {
                "parameters": [ID],
                "get": _operation(
                    "watchExport",
                    "Follow an export to its end",
                    {200: STREAM, 204: {"description": "You have seen its end"}},
                    (404, 503),
                ),
            },
            "/events": {
                "get": _operation(
                    "watchExports", "Follow all exports", {200: STREAM}, (503,)
                )
            },
            "/metrics": {
                "get": _operation(
                    "getMetrics",
                    "Figures for Prometheus",
                    {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
                    (503,),
                )
            },
            "/me": {
                "get": _operation(
                    "showMe", "Who asks, and what they may do", {200: _json(Me)}, (503,)
                )
            },
            "/session": {
                "post": _operation(
                    "signIn",
                    "Keep a key in a cookie, for browsers",
                    {204: {"description": "Signed in, for twelve hours at most"}},
                    (403, 409, 503),
                ),
                "delete": _operation(
                    "signOut",
                    "Forget the cookie and its key",
                    {204: {"description": "Signed out"}},
                    (403, 503),
                ),
            },
            "/keys": {
                "get": _operation(
                    "listKeys", "List all keys", {200: _json(KeyList)}, (403, 503)
                ),
                "post": _operation(
                    "createKey",
                    "Make a key",
                    {201: _json(MadeKey)},
                    (400, 403, 408, 413, 415, 422, 503),
                    requestBody={
                        "required": True,
                        "content": {JSON: {"schema": _ref(KeyRequest)}},
                    },
                ),
            },
            "/keys/{id}": {
                "parameters": [KEY_ID],
                "delete": _operation(
                    "revokeKey",
                    "Accept a key no longer",
                    {204: {"description": "It is revoked"}},
                    (403, 404, 503),
                ),
            },
            "/keys/{id}/rotate": {
                "parameters": [KEY_ID],
                "post": _operation(
                    "rotateKey",
                    "Make a key like this one, which is accepted for a day more",
                    {201: _json(MadeKey)},
                    (403, 404, 503),
                ),
            },
            "/requesters": {
                "get": _operation(
                    "listRequesters",
                    "List all requesters",
                    {200: _json(RequesterList)},
                    (403, 503),
                ),
            },
            "/requesters/{name}": {
                "parameters": [REQUESTER_NAME],
                "patch": _operation(
                    "changeRequester",
                    "Change whose rights and settings their exports have",
                    {200: _json(Requester)},
                    (400, 403, 408, 413, 415, 422, 503),
                    requestBody={
                        "required": True,
                        "content": {JSON: {"schema": _ref(RequesterChange)}},
                    },
                ),
            },
            "/sources": {
                "get": _operation(
                    "listSources",
                    "List what can be exported",
                    {200: _json(SourceList)},
                    (503,),
                )
            },
        },
        "components": {"schemas": schemas["$defs"]},
    }


def _operation(
    id: str,
    summary: str,
    answers: dict[int, Any],
    problems: tuple[int, ...],
    **more: Any,
) -> dict[str, Any]:
    responses = {
        str(status): {"description": summary} | answer
        for status, answer in answers.items()
    } | _refused(*sorted((*problems, 421)))
    return {"operationId": id, "summary": summary, "responses": responses, **more}


def _refused(*statuses: int) -> dict[str, Any]:
    schema = {"$ref": REF.format(model="ProblemDetails")}
    return {
        str(status): {
            "description": PROBLEMS[status],
            "content": {PROBLEM: {"schema": schema}},
        }
        for status in statuses
    }


def _query(model: type[BaseModel]) -> list[dict[str, Any]]:
    properties = model.model_json_schema(by_alias=True, ref_template=REF)["properties"]
    return [
        {
            "name": name,
            "in": "query",
            "description": schema.pop("description"),
            "schema": _not_null(schema),
        }
        for name, schema in properties.items()
    ]


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is given or not, but never null."""
    for one in schema.get("anyOf", []):
        if one.get("type") != "null":
            return dict(one)
    return schema


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return _body(_ref(model))


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {JSON: {"schema": schema}}}


def _header(kind: str, what: str) -> dict[str, Any]:
    return {"schema": {"type": kind}, "description": what}


def _file(what: str) -> dict[str, Any]:
    return {
        "description": what,
        "headers": {
            "ETag": _header("string", "strong, from the sha256"),
            "Repr-Digest": _header("string", "RFC 9530"),
        },
        "content": {kind: {"schema": BYTES} for kind in FILES},
    }
