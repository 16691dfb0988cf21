"""The answers of the HTTP interface, except files."""

import io
from typing import Any
from uuid import UUID

import pytest

from ..conftest import Service, Start

NO_EXPORT = UUID(int=7)


@pytest.fixture
async def api(start: Start) -> Service:
    """The API without a worker: exports stay pending."""
    return await start(work=False)


async def problem(answer: Any, status: int) -> dict[str, Any]:
    told: dict[str, Any] = await answer.json(content_type="application/problem+json")
    assert answer.status == told["status"] == status, told
    assert told["type"] and told["title"] and told["detail"]
    return told


async def stored(api: Service) -> int:
    async with api.http.get("/exports") as answer:
        return len((await answer.json())["exports"])


async def test_health(api: Service) -> None:
    async with api.http.get("/health") as answer:
        assert answer.status == 200
        assert await answer.json() == {"status": "ok"}


async def test_submit_without_a_body_exports_the_default_source(start: Start) -> None:
    api = await start(work=False, default_source="pg_class")
    async with api.http.post("/exports") as answer:
        export = await answer.json()
        assert answer.status == 202
        assert answer.headers["Location"] == f"/exports/{export['jobId']}"
        assert answer.headers["Retry-After"] == "1"
    assert (export["status"], export["source"], export["progress"]) == (
        "pending",
        "pg_class",
        0,
    )
    async with api.http.get(answer.headers["Location"]) as answer:
        assert (await answer.json())["jobId"] == export["jobId"]


async def test_cancel_is_idempotent(api: Service) -> None:
    id = (await api.export())["jobId"]
    for _ in range(2):
        async with api.http.post(f"/exports/{id}/cancel") as answer:
            assert answer.status == 200
            assert (await answer.json())["status"] == "cancelled"


@pytest.mark.parametrize(
    "body, status, words",
    [
        (b"{", 400, "JSON"),
        (b"not json", 400, "JSON"),
        (b"\xff\xfe", 400, "JSON"),
        (b"[]", 422, "object"),
        (b"null", 422, "object"),
        (b'"users"', 422, "object"),
        (b'{"source": 7}', 422, "source"),
        (b'{"columns": "id"}', 422, "columns"),
        (b'{"columns": [1]}', 422, "columns/0"),
        (b'{"sauce": "users"}', 422, "sauce"),
        (b'{"status": "completed"}', 422, "status"),
        (b'{"source": "users", "columns": []}', 422, "columns"),
        (b'{"source": "users", "query": "select 1"}', 422, "a source or a query"),
        (b'{"query": "select 1", "columns": ["a"]}', 422, "columns belong to a source"),
        (b'{"source": "nowhere"}', 422, 'relation "nowhere" does not exist'),
        (b'{"source": "users", "columns": ["nam"]}', 422, 'column "nam"'),
        (b'{"source": "a\\u0000b"}', 422, "source"),
        (b'{"source": "\\ud800"}', 400, "JSON"),
        (b'{"query": ""}', 422, "a query is not blank"),
        (b'{"query": "select 1; drop table users"}', 422, "one statement"),
        (b'{"query": "delete from users"}', 422, "permission denied"),
        (b'{"query": "select * from exports"}', 422, "permission denied"),
        (b'{"query": "select ' + b"(" * 20_000 + b'1"}', 422, ""),
        (b'{"query": "' + b"x" * 2_000_000 + b'"}', 422, "MAX_QUERY_BYTES"),
        (b'{"query": "' + b"x" * 4_000_000 + b'"}', 413, "larger"),
        (b'{"limit": 1, "limit": 2}', 400, "more than once"),
        (b'{"source": "users", "limit": NaN}', 400, "NaN"),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, bytes) else None,
)
async def test_bad_bodies_are_refused_and_store_nothing(
    api: Service, body: bytes, status: int, words: str
) -> None:
    headers = {"Content-Type": "application/json"}
    async with api.http.post(
        "/exports", data=io.BytesIO(body), headers=headers
    ) as answer:
        assert words in (await problem(answer, status))["detail"]
    assert await stored(api) == 0


async def test_what_postgresql_says_is_passed_on(api: Service) -> None:
    async with api.http.post(
        "/exports", json={"query": "select nam from users"}
    ) as answer:
        told = await problem(answer, 422)
    assert told["sqlstate"] == "42703"
    assert told["detail"] == 'column "nam" does not exist'
    assert "name" in told["hint"]


async def test_a_body_that_is_not_called_json_is_refused(api: Service) -> None:
    async with api.http.post("/exports", data="source=users") as answer:
        assert "application/json" in (await problem(answer, 415))["detail"]
        assert answer.headers["Accept"] == "application/json"


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("GET", "/nowhere", 404),
        ("GET", "/exports/", 404),
        ("PUT", "/exports", 405),
        ("DELETE", "/health", 405),
        ("GET", "/exports/not-a-uuid", 404),
        ("GET", "/exports/not-a-uuid/download", 404),
        ("POST", "/exports/1/cancel", 404),
        ("GET", "/exports/%00", 404),
        ("GET", f"/exports/{NO_EXPORT}", 404),
        ("POST", f"/exports/{NO_EXPORT}/cancel", 404),
        ("POST", f"/exports/{NO_EXPORT}/retry", 404),
        ("GET", f"/exports/{NO_EXPORT}/download", 404),
        ("GET", "/exports?limit=0", 422),
        ("GET", "/exports?limit=x", 422),
        ("GET", "/exports?status=done", 422),
        ("GET", "/exports?cursor=%00", 422),
        ("GET", "/exports?cursor=AAAA", 422),
        ("GET", "/exports?page=2", 422),
    ],
)
async def test_everything_else_is_a_problem_document(
    api: Service, method: str, path: str, status: int
) -> None:
    async with api.http.request(method, path) as answer:
        await problem(answer, status)
        assert status != 405 or answer.headers["Allow"]


async def test_what_has_no_file_yet_cannot_be_downloaded(api: Service) -> None:
    id = (await api.export())["jobId"]
    async with api.http.get(f"/exports/{id}/download") as answer:
        assert "pending" in (await problem(answer, 409))["detail"]
        assert answer.headers["Retry-After"] == "1"
    async with api.http.post(f"/exports/{id}/retry") as answer:
        assert "pending" in (await problem(answer, 409))["detail"]
    await api.http.post(f"/exports/{id}/cancel")
    async with api.http.get(f"/exports/{id}/download") as answer:
        assert "cancelled" in (await problem(answer, 409))["detail"]


async def test_the_list_is_paged_newest_first(api: Service) -> None:
    ids = [(await api.export())["jobId"] for _ in range(5)]
    await api.http.post(f"/exports/{ids[0]}/cancel")
    seen, url = [], "/exports?limit=2"
    while url:
        async with api.http.get(url) as answer:
            seen += [export["jobId"] for export in (await answer.json())["exports"]]
            url = str(answer.links["next"]["url"]) if "next" in answer.links else ""
    assert seen == ids[::-1]
    async with api.http.get("/exports?status=cancelled") as answer:
        assert [e["jobId"] for e in (await answer.json())["exports"]] == ids[:1]


async def test_downloads_are_resumed_and_revalidated(service: Service) -> None:
    export = await service.ended((await service.export())["jobId"])
    url, etag = f"/exports/{export['jobId']}/download", f'"{export["sha256"]}"'
    async with service.http.get(url) as answer:
        whole = await answer.read()
        assert answer.headers["ETag"] == etag
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert (
            answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
        )
        assert 'filename="users-' in answer.headers["Content-Disposition"]
        assert answer.headers["Repr-Digest"].startswith("sha-256=:")
    size = len(whole)
    for headers, status, body in [
        ({"Range": "bytes=5-9"}, 206, whole[5:10]),
        ({"Range": "bytes=-7"}, 206, whole[-7:]),
        ({"Range": "bytes=7-"}, 206, whole[7:]),
        ({"Range": f"bytes={size}-"}, 416, None),
        ({"Range": "bytes=-0"}, 416, None),
        ({"Range": "rows=1-2"}, 200, whole),
        ({"Range": "bytes=9-5"}, 200, whole),
        ({"Range": "bytes=0-1,4-5"}, 200, whole),
        ({"Range": "bytes=5-9", "If-Range": etag}, 206, whole[5:10]),
        ({"Range": "bytes=5-9", "If-Range": '"other"'}, 200, whole),
        (
            {"Range": "bytes=5-9", "If-Range": "Wed, 21 Oct 2015 07:28:00 GMT"},
            200,
            whole,
        ),
        ({"If-None-Match": etag}, 304, b""),
        ({"If-None-Match": f'W/{etag}, "x"'}, 304, b""),
        ({"If-None-Match": '"other"'}, 200, whole),
        ({"If-Match": '"other"'}, 412, None),
        ({"If-Match": etag}, 200, whole),
        ({"If-Match": "*"}, 200, whole),
    ]:
        async with service.http.get(url, headers=headers) as answer:
            assert answer.status == status, headers
            assert body is None or await answer.read() == body, headers
            if status in (200, 206, 304):
                assert answer.headers["ETag"] == etag
    async with service.http.head(url, headers={"Range": "bytes=0-1"}) as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(size))
