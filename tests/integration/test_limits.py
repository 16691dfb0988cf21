"""The limits of requesters, over HTTP and in a worker."""

from typing import Any

import psycopg
import pytest

from ..conftest import DAMMED, Service, Start, dam, eventually
from .test_keys import asking, make_key

pytestmark = pytest.mark.newest

Conn = psycopg.Connection[Any]


@pytest.fixture
async def service(start: Start) -> Service:
    return await start(auth="keys")


def limit(conn: Conn, **limits: int | None) -> None:
    for name, most in limits.items():
        conn.execute(f"update requesters set {name} = %s".encode(), [most])


async def test_requests_a_minute(service: Service, conn: Conn) -> None:
    ann = make_key(conn, "ann")
    limit(conn, max_requests_a_minute=3)
    async with asking(service, ann) as anns:
        for left in (2, 1, 0):
            async with anns.http.get("/exports") as answer:
                assert answer.status == 200
                assert answer.headers["RateLimit-Policy"] == '"requests";q=3;w=60'
                assert answer.headers["RateLimit"].startswith(f'"requests";r={left};t=')
        async with anns.http.get("/exports") as answer:
            problem = await answer.json()
            assert answer.status == 429
            assert problem["type"] == "/docs#quota-exceeded"
            assert problem["limit"] == "maxRequestsAMinute"
            assert problem["detail"] == "ann may make 3 requests a minute."
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
            assert answer.headers["RateLimit"].startswith('"requests";r=0;t=')
        async with anns.http.get("/health") as answer:
            assert answer.status == 200
    # Another key of ann's has the same minute; others have their own.
    async with asking(service, make_key(conn, "ann")) as again:
        async with again.http.get("/exports") as answer:
            assert answer.status == 429
    async with asking(service, make_key(conn, "bob")) as bobs:
        async with bobs.http.get("/exports") as answer:
            assert answer.status == 200
            assert "RateLimit" not in answer.headers


async def test_previews_a_minute(service: Service, conn: Conn) -> None:
    ann = make_key(conn, "ann")
    limit(conn, max_previews_a_minute=1)
    async with asking(service, ann) as anns:
        for expected in (200, 429):
            body = {"query": "select 1 as n"}
            async with anns.http.post("/exports?dryRun=true", json=body) as answer:
                assert answer.status == expected
                assert answer.headers["RateLimit-Policy"] == '"previews";q=1;w=60'
        assert (await anns.export(query="select 1 as n"))["status"] == "pending"


async def test_waiting_exports_are_limited(service: Service, conn: Conn) -> None:
    ann = make_key(conn, "ann")
    limit(conn, max_pending=1, max_running=0)
    async with asking(service, ann) as anns:
        first = await anns.export(query="select 1 as n")
        assert first["waitsFor"] == "limit"
        async with anns.http.post("/exports", json={"query": "select 2"}) as answer:
            problem = await answer.json()
            assert answer.status == 429 and answer.headers["Retry-After"] == "10"
            assert problem["type"] == "/docs#quota-exceeded"
            assert problem["limit"] == "maxPending"
            assert problem["detail"] == "1 exports of ann are waiting already"
        async with anns.http.get("/me") as answer:
            me = await answer.json()
        assert me["limits"]["maxPending"] == 1 and me["limits"]["maxRunning"] == 0
        assert me["limits"]["maxRows"] is None
        assert me["usage"] == {"running": 0, "pending": 1, "bytesToday": 0}
        limit(conn, max_running=1)
        assert (await anns.ended(first["jobId"]))["status"] == "completed"


async def test_running_exports_are_limited(service: Service, conn: Conn) -> None:
    ann, bob = make_key(conn, "ann"), make_key(conn, "bob")
    conn.execute("update requesters set max_running = 1 where name = 'ann'")
    async with asking(service, ann) as anns, asking(service, bob) as bobs:
        with dam(service.database):
            running = await anns.export(query=DAMMED)
            waiting = await anns.export(query="select 1 as n")

            async def runs() -> bool:
                async with anns.http.get(f"/exports/{running['jobId']}") as answer:
                    return (await answer.json())["status"] == "processing"

            await eventually(runs)
            other = await bobs.export(query="select 1 as n")
            assert (await bobs.ended(other["jobId"]))["status"] == "completed"
            async with anns.http.get(f"/exports/{waiting['jobId']}") as answer:
                assert (await answer.json())["waitsFor"] == "limit"
            async with anns.http.post(f"/exports/{running['jobId']}/cancel") as answer:
                assert answer.status == 200
            assert (await anns.ended(waiting["jobId"]))["status"] == "completed"


@pytest.mark.parametrize(
    "limits, reason",
    [
        ({"max_rows": 1_000}, "the file would have more than 1,000 rows, which is"),
        ({"max_bytes": 1_000}, "the file would be larger than 1,000 bytes, which is"),
        ({"max_seconds": 1}, "it took longer than 1 seconds, which is"),
    ],
)
async def test_a_file_is_limited(
    service: Service, conn: Conn, limits: dict[str, int], reason: str
) -> None:
    ann = make_key(conn, "ann")
    limit(conn, **limits)
    query = "select n from generate_series(1, 200000) as n"
    if "max_seconds" in limits:
        query = "select pg_sleep(60)::text as slept"
    async with asking(service, ann) as anns:
        export = await anns.export(query=query)
        ended = await anns.ended(export["jobId"])
        assert ended["status"] == "failed"
        assert ended["error"]["message"] == f"{reason} the limit of ann"
        allowed = await anns.export(query="select n from generate_series(1, 100) as n")
        assert (await anns.ended(allowed["jobId"]))["status"] == "completed"


async def test_a_day_has_so_many_bytes(service: Service, conn: Conn) -> None:
    ann = make_key(conn, "ann")
    limit(conn, max_bytes_a_day=1)
    async with asking(service, ann) as anns:
        export = await anns.export(query="select 1 as n")
        assert (await anns.ended(export["jobId"]))["bytes"] == 4
        async with anns.http.post("/exports", json={"query": "select 2"}) as answer:
            problem = await answer.json()
            assert answer.status == 429 and problem["limit"] == "maxBytesADay"
            assert 0 < int(answer.headers["Retry-After"]) <= 86_400
        async with anns.http.get("/me") as answer:
            assert (await answer.json())["usage"]["bytesToday"] == 4
