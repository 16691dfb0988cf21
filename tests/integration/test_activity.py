"""The log of activities over HTTP: who did what, from where, and who may see it."""

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest
from yarl import URL

from service.queue import keyring

from ..conftest import Service, Start, eventually
from .test_keys import asking, make_key

pytestmark = pytest.mark.newest

Conn = psycopg.Connection[Any]

LARGE = "select repeat('x', 1000) from generate_series(1, 30000)"


@pytest.fixture
async def service(start: Start) -> Service:
    return await start(auth="keys")


async def activity(asker: Service, path: str = "/activity", **query: str) -> Any:
    async with asker.http.get(path, params=query) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["activity"]


async def logged(asker: Service, id: str, action: str) -> dict[str, Any]:
    """Wait until *action* of the export is in the log; what is sent is logged later."""

    async def look() -> Any:
        found = await activity(asker, f"/exports/{id}/activity")
        return next((one for one in found if one["action"] == action), None)

    found: dict[str, Any] = await eventually(look)
    return found


async def test_what_was_done_with_an_export(service: Service, conn: Conn) -> None:
    ann, boss = make_key(conn, "ann"), make_key(conn, "boss", "admin")
    async with asking(service, ann) as anns, asking(service, boss) as bosss:
        later = "2100-01-01T00:00:00Z"
        export = await anns.export(query="select 1 as n", runAt=later)
        id = export["jobId"]
        for asker, verb in ((bosss, "cancel"), (anns, "retry")):
            async with asker.http.post(f"/exports/{id}/{verb}") as answer:
                assert answer.ok
        await anns.ended(id)
        async with anns.http.get(f"/exports/{id}/download") as answer:
            size = len(await answer.read())
        await logged(anns, id, "downloaded")
        found = await activity(anns, f"/exports/{id}/activity")
        assert found == [
            one for one in await activity(anns) if not one["action"].startswith("key-")
        ]
        async with anns.http.delete(f"/exports/{id}") as answer:
            assert answer.status == 204
        async with anns.http.get(f"/exports/{id}/activity") as answer:
            assert answer.status == 404
        [deleted, *of_export] = await activity(anns, export=id)
        assert deleted["action"] == "deleted" and of_export == found
    told = [
        (one["action"], one["actor"], one["keyId"], one["address"], one["bytes"])
        for one in reversed(found)
    ]
    here, worker = "127.0.0.1", ("postgres", None, None)
    assert told == [
        ("submitted", "ann", ann.id, here, None),
        ("cancelled", "boss", boss.id, here, 0),
        ("retried", "ann", ann.id, here, None),
        ("started", *worker, None),
        ("completed", *worker, size),
        ("downloaded", "ann", ann.id, here, size),
    ]
    assert {one["requester"] for one in found} == {"ann"}
    assert {one["export"] for one in found} == {id}
    assert [one["at"] for one in found] == sorted(
        (one["at"] for one in found), reverse=True
    )


async def test_nothing_of_others_is_shown(service: Service, conn: Conn) -> None:
    ann, bob = make_key(conn, "ann"), make_key(conn, "bob")
    boss = make_key(conn, "boss", "admin")
    async with AsyncExitStack() as stack:
        anns, bobs, bosss = [
            await stack.enter_async_context(asking(service, one))
            for one in (ann, bob, boss)
        ]
        mine = (await anns.export(query="select 1"))["jobId"]
        hers = (await bobs.export(query="select 2"))["jobId"]
        for id, asker in ((mine, anns), (hers, bobs)):
            await asker.ended(id)
        async with anns.http.get(f"/exports/{hers}/activity") as answer:
            assert answer.status == 404
        assert {one["requester"] for one in await activity(anns)} == {"ann"}
        assert await activity(anns, requester="bob") == []
        assert await activity(anns, export=hers) == []
        assert await activity(anns, requester="ann") == await activity(anns)
        everybody = {one["requester"] for one in await activity(bosss)}
        assert everybody == {"ann", "bob", "boss"}
        assert {one["export"] for one in await activity(bosss, export=hers)} == {hers}
        assert len(await activity(bosss, requester="bob", action="submitted")) == 1


async def test_without_keys_everybody_sees_everything(start: Start) -> None:
    service = await start()
    id = (await service.export(query="select 1"))["jobId"]
    await service.ended(id)
    async with service.http.get(f"/exports/{id}/download") as answer:
        await answer.read()
    downloaded = await logged(service, id, "downloaded")
    assert downloaded["actor"] == downloaded["requester"] == "postgres"
    assert downloaded["keyId"] is None and downloaded["address"] == "127.0.0.1"


async def test_pages_and_filters(service: Service, conn: Conn) -> None:
    async with asking(service, make_key(conn, "ann")) as anns:
        later = "2100-01-01T00:00:00Z"
        ids = [
            (await anns.export(query="select 1", runAt=later))["jobId"]
            for _ in range(5)
        ]
        seen = []
        url = "/activity?limit=2&action=submitted"
        while url:
            async with anns.http.get(url) as answer:
                seen += [one["export"] for one in (await answer.json())["activity"]]
                url = str(answer.links["next"]["url"]) if answer.links else ""
        assert seen == ids[::-1]
        [middle] = await activity(anns, export=ids[2])
        after = await activity(anns, **{"from": middle["at"]})
        assert [one["export"] for one in after] == ids[:1:-1]
        before = await activity(anns, until=middle["at"], action="submitted")
        assert [one["export"] for one in before] == ids[1::-1]


@pytest.mark.parametrize(
    "query",
    [
        "action=praised",
        "export=x",
        "from=yesterday",
        "until=2026-01-31",
        "limit=0",
        "limit=1001",
        "cursor=x",
        "cursor=MjAyNi0xMS0yOFQwMjoyMTozNiB4",
        "cursor=MjAyNi0xMS0yOFQwMjoyMTozNiA5OTk5OTk5OTk5OTk5OTk5OTk5OTk=",
        "requester=%00",
        "color=red",
    ],
)
async def test_what_cannot_be_asked(service: Service, conn: Conn, query: str) -> None:
    async with asking(service, make_key(conn, "ann")) as anns:
        async with anns.http.get(f"/activity?{query}") as answer:
            assert answer.status == 422, await answer.text()


async def test_the_bytes_of_downloads(service: Service, conn: Conn) -> None:
    async with asking(service, make_key(conn, "ann")) as anns:
        id = (await anns.export(query="select 123456789 as n"))["jobId"]
        export = await anns.ended(id)
        url = f"/exports/{id}/download"
        unchanged = {"If-None-Match": f'"{export["sha256"]}"'}
        for method, headers in (
            ("HEAD", {}),
            ("GET", unchanged),
            ("GET", {"Range": "bytes=99-"}),
            ("GET", {"Range": "bytes=2-5"}),
            ("GET", {"Range": "bytes=-3"}),
            ("GET", {}),
        ):
            async with anns.http.request(method, url, headers=headers) as answer:
                await answer.read()

        async def whole() -> Any:
            found = await activity(anns, action="downloaded", export=id)
            return found if len(found) >= 3 else None

        found = await eventually(whole)
        assert [one["bytes"] for one in found] == [12, 3, 4]
        assert [one["detail"] for one in found] == [None] * 3


async def test_an_empty_file_was_downloaded(service: Service, conn: Conn) -> None:
    async with asking(service, make_key(conn, "ann")) as anns:
        id = (await anns.export(query="select 1 where false", format="jsonl"))["jobId"]
        await anns.ended(id)
        async with anns.http.get(f"/exports/{id}/download") as answer:
            assert await answer.read() == b""
        assert (await logged(anns, id, "downloaded"))["bytes"] == 0


async def test_what_went_of_an_aborted_download(service: Service, conn: Conn) -> None:
    made = make_key(conn, "ann")
    async with asking(service, made) as anns:
        export = await anns.export(query=LARGE)
        size = (await anns.ended(export["jobId"]))["bytes"]
        parts = URL(service.url)
        assert parts.host and parts.port
        reader, writer = await asyncio.open_connection(parts.host, parts.port)
        plug = writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        writer.write(
            f"GET /exports/{export['jobId']}/download HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {made.key}\r\nRange: bytes=5000000-\r\n\r\n".encode()
        )
        await reader.readexactly(1000)
        writer.transport.abort()
        found = await logged(anns, export["jobId"], "downloaded")
    assert 0 < found["bytes"] < size - 5_000_000
    assert found["detail"] == {"of": size - 5_000_000}


async def test_a_download_goes_on_if_it_cannot_be_logged(
    service: Service, conn: Conn, caplog: pytest.LogCaptureFixture
) -> None:
    async with asking(service, make_key(conn, "ann")) as anns:
        id = (await anns.export(query="select 1 as n"))["jobId"]
        await anns.ended(id)
        conn.execute("drop function log_activity")
        for _ in range(2):
            async with anns.http.get(f"/exports/{id}/download") as answer:
                assert answer.status == 200 and await answer.read() == b"n\n1\n"
    assert f"a download of {id} could not be logged" in caplog.text


async def test_what_is_done_with_keys(service: Service, conn: Conn) -> None:
    boss = make_key(conn, "boss", "admin")
    async with asking(service, boss) as bosss:
        async with bosss.http.post("/keys", json={"requester": "ann"}) as answer:
            made = await answer.json()
        async with bosss.http.post(f"/keys/{made['id']}/rotate") as answer:
            second = await answer.json()
        async with bosss.http.delete(f"/keys/{made['id']}") as answer:
            assert answer.status == 204
        found = await activity(bosss, requester="ann")
        text = str(await activity(bosss))
    assert [(one["action"], one["detail"]["key"]) for one in reversed(found)] == [
        ("key-made", made["id"]),
        ("key-made", second["id"]),
        ("key-rotated", made["id"]),
        ("key-revoked", made["id"]),
    ]
    assert {(one["actor"], one["keyId"], one["address"]) for one in found} == {
        ("boss", boss.id, "127.0.0.1")
    }
    for key in (made["key"], second["key"], boss.key):
        assert key not in text and key[20:60] not in text


async def test_wrong_keys_are_logged_some_a_minute(
    service: Service, conn: Conn
) -> None:
    wrong = f"csv_{'0' * 12}_{'0' * 72}"
    for _ in range(keyring.LOGGED + 5):
        headers = {"Authorization": f"Bearer {wrong}"}
        async with service.http.get("/exports", headers=headers) as answer:
            assert answer.status == 401
    async with asking(service, make_key(conn, "ann")) as anns:
        assert await activity(anns, action="key-refused") == []
    async with asking(service, make_key(conn, "boss", "admin")) as bosss:
        found = await activity(bosss, action="key-refused")
    assert len(found) == keyring.LOGGED
    assert {(one["actor"], one["address"], one["detail"]) for one in found} == {
        (None, "127.0.0.1", None)
    }


async def test_a_wrong_key_is_401_whatever_the_log_says(
    service: Service, conn: Conn, caplog: pytest.LogCaptureFixture
) -> None:
    conn.execute("drop function log_activity")
    async with service.http.get(
        "/exports", headers={"Authorization": "Bearer x"}
    ) as answer:
        assert answer.status == 401
    assert "a wrong key could not be logged" in caplog.text


async def test_old_activities_are_forgotten(start: Start, conn: Conn) -> None:
    conn.execute(
        "insert into activities (at, action) values"
        " (now() - interval '91 d', 'downloaded'), (now() - interval '89 d', 'downloaded')"
    )
    await start(serve=False, activity_retention=0)
    await start(serve=False)  # its janitor cleans up at once

    async def one_is_left() -> bool:
        left = conn.execute("select at > now() - interval '90 d' from activities")
        return left.fetchall() == [(True,)]

    await eventually(one_is_left)


async def test_the_retention_of_zero_keeps_them(start: Start, conn: Conn) -> None:
    conn.execute(
        "insert into activities (at, action) values (now() - interval '9 y', 'downloaded')"
    )
    # What the janitor does after it would have deleted them.
    conn.execute(
        "insert into exports (query, run_at) values ('select 1', now() + interval '1 h')"
    )
    conn.execute("select cancel_export(id) from exports")
    await start(serve=False, activity_retention=0, history=0.001)

    async def pruned() -> bool:
        return conn.execute("select from exports").rowcount == 0

    await eventually(pruned)
    assert (
        conn.execute(
            "select from activities where at < now() - interval '1 y'"
        ).rowcount
        == 1
    )
