"""The bodies of requests and answers, which are JSON objects."""

import asyncio
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel

from .problems import Problem

PATIENCE = 30.0  # seconds for the whole body to arrive


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Read the body within `PATIENCE`; the request keeps it for the handler."""
    if request.body_exists:
        try:
            async with asyncio.timeout(PATIENCE):
                await request.read()
        except TimeoutError:
            raise Problem(
                408,
                f"The body did not arrive within {PATIENCE:g} seconds.",
                headers={"Connection": "close"},
            ) from None
    return await handler(request)


async def members(request: web.Request) -> dict[str, Any]:
    """Return the members of the object in the body; none if there is no body."""
    body = await request.read()
    if body and request.content_type != "application/json":
        raise Problem(
            415,
            "The body must be JSON, with Content-Type: application/json.",
            headers={"Accept": "application/json"},
        )
    return _parsed(body) if body else {}


def answer(
    shown: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Answer with the JSON of *shown*."""
    return web.Response(
        status=status,
        text=shown.model_dump_json(by_alias=True),
        content_type="application/json",
        headers=headers,
    )


def _parsed(body: bytes) -> Any:
    """Parse *body* as a JSON object; keep all digits of its numbers."""
    try:
        parsed = json.loads(
            body,
            parse_float=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_once,
        )
        if b"\\u" in body:  # raise for lone surrogates, which cannot be encoded
            json.dumps(parsed, ensure_ascii=False, default=str).encode()
    except (ValueError, RecursionError) as error:
        raise Problem("malformed", f"The body is not JSON: {error}.") from None
    if not isinstance(parsed, dict):
        raise Problem("invalid", "The body is not a JSON object.")
    return parsed


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the member {twice!r} occurs more than once")
    return members


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")
