"""Links: one file, for a while, without a key."""

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from ..conftest import Service, Start, eventually
from .test_activity import LARGE, activity, logged
from .test_client import Shell
from .test_keys import Made, asking, make_key

pytestmark = pytest.mark.newest

Conn = psycopg.Connection[Any]


@pytest.fixture
async def service(start: Start) -> Service:
    return await start(auth="keys")


async def completed(asker: Service, query: str = "select 123456789 as n") -> str:
    id: str = (await asker.export(query=query))["jobId"]
    await asker.ended(id)
    return id


async def link_to(asker: Service, id: str, **wanted: Any) -> dict[str, Any]:
    async with asker.http.post(f"/exports/{id}/links", json=wanted) as answer:
        assert answer.status == 201, await answer.text()
        assert answer.headers["Cache-Control"] == "no-store"
        return await answer.json()


async def status(service: Service, url: str) -> int:
    """Return what a stranger is answered."""
    async with service.http.get(url) as answer:
        await answer.read()
        return answer.status


@asynccontextmanager
async def a_link(
    service: Service, made: Made, **wanted: Any
) -> AsyncIterator[tuple[Service, str, dict[str, Any]]]:
    """A requester, an export of theirs, and a link to its file."""
    async with asking(service, made) as asker:
        id = await completed(asker)
        yield asker, id, await link_to(asker, id, **wanted)


async def test_a_stranger_downloads_the_file(service: Service, conn: Conn) -> None:
    made = make_key(conn, "ann")
    async with a_link(service, made) as (anns, id, link):
        async with anns.http.get(f"/exports/{id}/download") as answer:
            body, owners = await answer.read(), answer.headers
        async with service.http.get(link["url"]) as answer:
            assert answer.status == 200 and await answer.read() == body
            theirs = answer.headers
        for name in (
            "ETag", "Content-Disposition", "Content-Type", "Content-Length",
            "Repr-Digest", "Accept-Ranges", "Cache-Control", "X-Content-Type-Options",
        ):  # fmt: skip
            assert theirs[name] == owners[name]
        assert theirs["Content-Disposition"].startswith("attachment")
        assert "private" in theirs["Cache-Control"]
        assert theirs["Referrer-Policy"] == "no-referrer"
        for method, headers, answered, length in (
            ("HEAD", {}, 200, 0),
            ("GET", {"Range": "bytes=2-5"}, 206, 4),
            ("GET", {"Range": "bytes=99-"}, 416, None),
            ("GET", {"If-None-Match": owners["ETag"]}, 304, 0),
            ("GET", {"If-Match": '"other"'}, 412, None),
        ):
            async with service.http.request(
                method, link["url"], headers=headers
            ) as answer:
                assert answer.status == answered
                if length is not None:
                    assert len(await answer.read()) == length
                    assert answer.headers["Referrer-Policy"] == "no-referrer"
        # It opens nothing else.
        async with service.http.get(f"/exports/{id}") as answer:
            assert answer.status == 401


async def test_what_is_logged_of_links(
    service: Service, conn: Conn, caplog: pytest.LogCaptureFixture
) -> None:
    made = make_key(conn, "ann")
    caplog.set_level("DEBUG")
    async with a_link(service, made) as (anns, id, link):
        assert await status(service, link["url"]) == 200
        downloaded = await logged(anns, id, "downloaded")
        url = f"/exports/{id}/links/{link['id']}"
        async with anns.http.delete(url) as answer:
            assert answer.status == 204
        found = await activity(anns, f"/exports/{id}/activity")
        async with anns.http.get(f"/exports/{id}/links") as answer:
            listed = await answer.text()
            [shown] = (await answer.json())["links"]
        async with anns.http.get("/metrics") as answer:
            metrics = await answer.text()
    assert downloaded["actor"] is downloaded["keyId"] is None
    assert downloaded["requester"] == "ann" and downloaded["bytes"] == 12
    assert downloaded["address"] == "127.0.0.1"
    assert [
        (one["action"], one["actor"], one["keyId"], one["detail"]) for one in found[:3]
    ] == [
        ("link-revoked", "ann", made.id, {"link": link["id"]}),
        ("downloaded", None, None, {"link": link["id"]}),
        ("link-made", "ann", made.id, {"link": link["id"]}),
    ]
    assert shown["madeBy"] == "ann" and shown["lastUsedAt"] and shown["revokedAt"]
    token = link["url"].removeprefix("/links/")
    assert re.fullmatch("[0-9a-f]{64}", token)
    for text in (str(found), listed, metrics, caplog.text):
        assert token not in text
    assert hashlib.sha256(token.encode()).hexdigest() not in listed
    row = conn.execute("select l::text, digest from export_links as l").fetchone()
    assert row and token not in row[0]
    assert row[1] == hashlib.sha256(token.encode()).digest()


async def test_a_failure_shows_no_link(
    service: Service, conn: Conn, caplog: pytest.LogCaptureFixture
) -> None:
    """Also not in the log of what nobody foresaw."""
    async with a_link(service, make_key(conn, "ann")) as (_, _, link):
        token = link["url"].removeprefix("/links/")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("service.api.links.send", None)
            assert await status(service, link["url"]) == 500
    assert "GET /links/…" in caplog.text and token not in caplog.text
    caplog.clear()


async def test_what_ends_a_link(service: Service, conn: Conn) -> None:
    ways = {
        "revoked": "select revoke_link(export, id) from export_links",
        "expired": "update export_links set created_at = now() - interval '2 d',"
        " expires_at = now() - interval '1 s'",
        "key revoked": "select revoke_key(made_with) from export_links",
        "key deleted": "delete from requester_keys",
        "requester deleted": "delete from requesters",
        "export deleted": "delete from exports",
        "file expired": "update exports set expires_at = now()",
    }
    for name, way in ways.items():
        async with a_link(service, make_key(conn, "ann")) as (_, _, link):
            assert await status(service, link["url"]) == 200, name
            conn.execute(way)
            assert await status(service, link["url"]) == 404, name
        conn.execute("delete from exports")


async def test_a_link_of_a_browser_outlives_its_session(
    service: Service, conn: Conn
) -> None:
    """It belongs to the key that signed in."""
    key = make_key(conn, "ann", expires_in="1 hour")
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(service.url, cookie_jar=jar) as browser:
        bearer = {"Authorization": f"Bearer {key.key}"}
        async with browser.post("/session", headers=bearer):
            pass
        page = Service(service.url, browser, service.settings, service.database)
        link = await link_to(page, await completed(page))
        async with browser.delete("/session"):
            pass
    assert await status(service, link["url"]) == 200
    # Not longer than the key would have been accepted.
    assert conn.execute(
        "select l.made_with, l.expires_at = k.expires_at from export_links as l"
        " join requester_keys as k on k.id = l.made_with"
    ).fetchone() == (key.id, True)
    conn.execute("select revoke_key(%s)", [key.id])
    assert await status(service, link["url"]) == 404


@pytest.mark.parametrize("what", ["link", "key", "export"])
async def test_who_revokes_ends_running_downloads(
    service: Service, conn: Conn, what: str
) -> None:
    made = make_key(conn, "ann")
    async with asking(service, made) as anns:
        id = await completed(anns, LARGE)
        link = await link_to(anns, id)
        async with service.http.get(link["url"]) as answer:
            await answer.content.readexactly(1000)
            if what == "link":
                async with anns.http.delete(f"/exports/{id}/links/{link['id']}"):
                    pass
            elif what == "key":
                conn.execute("select revoke_key(%s)", [made.id])
            else:
                conn.execute("delete from exports")

            async def ended() -> bool:
                return (
                    conn.execute(
                        "select from activities where action = 'downloaded'"
                    ).rowcount
                    == 1
                )

            await eventually(ended)  # while we read nothing
            with pytest.raises(aiohttp.ClientError):
                await answer.read()


async def test_what_leads_nowhere(service: Service, conn: Conn) -> None:
    async with a_link(service, make_key(conn, "ann")) as (_, id, link):
        token = link["url"].removeprefix("/links/")
        digest = hashlib.sha256(token.encode()).hexdigest()
        wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
        answers = set()
        for one in (
            wrong,
            digest,
            link["id"],
            id,
            token[:-1],
            token.upper(),
            "x",
            "%00",
        ):
            if one == token:
                continue  # its digits have no letters
            async with service.http.get(f"/links/{one}") as answer:
                assert answer.status == 404
                answers.add(await answer.text())
    assert len(answers) == 1  # whatever is wrong with it


async def test_who_may_make_and_see_links(service: Service, conn: Conn) -> None:
    ann, bob = make_key(conn, "ann"), make_key(conn, "bob")
    boss = make_key(conn, "boss", "admin")
    async with (
        a_link(service, ann) as (anns, id, link),
        asking(service, bob) as bobs,
        asking(service, boss) as bosss,
    ):
        other = await completed(anns)
        for method, url in (
            ("POST", f"/exports/{id}/links"),
            ("GET", f"/exports/{id}/links"),
            ("DELETE", f"/exports/{id}/links/{link['id']}"),
        ):
            async with bobs.http.request(method, url) as answer:
                assert answer.status == 404
        # A link belongs to its export.
        for wrong in (
            f"{other}/links/{link['id']}",
            f"{id}/links/x",
            f"{id}/links/%00",
        ):
            async with anns.http.delete(f"/exports/{wrong}") as answer:
                assert answer.status == 404
        assert await status(service, link["url"]) == 200
        async with bosss.http.delete(f"/exports/{id}/links/{link['id']}") as answer:
            assert answer.status == 204
        async with bosss.http.delete(f"/exports/{id}/links/{link['id']}") as answer:
            assert answer.status == 404
        assert await status(service, link["url"]) == 404


@pytest.mark.parametrize(
    "wanted",
    [{"expiresIn": 0}, {"expiresIn": 86_400 * 30 + 1}, {"expiresIn": "1"}, {"for": 1}],
)
async def test_what_no_link_can_be(
    service: Service, conn: Conn, wanted: dict[str, Any]
) -> None:
    async with asking(service, make_key(conn, "ann")) as anns:
        id = await completed(anns)
        async with anns.http.post(f"/exports/{id}/links", json=wanted) as answer:
            assert answer.status == 422
        link = await link_to(anns, id, expiresIn=86_400 * 30)
    [(days, until)] = conn.execute(
        "select l.expires_at - l.created_at <= '30 d', l.expires_at = e.expires_at"
        " from export_links as l join exports as e on e.id = l.export"
    ).fetchall()
    assert days and until and link["expiresAt"]


async def test_only_a_file_has_links(service: Service, conn: Conn) -> None:
    async with asking(service, make_key(conn, "ann")) as anns:
        later = await anns.export(query="select 1", runAt="2100-01-01T00:00:00Z")
        failed = await anns.export(query="select 1 / (id - 1) from users")
        await anns.ended(failed["jobId"])
        expired = await completed(anns)
        conn.execute("update exports set expires_at = now() where id = %s", [expired])
        for id, answered in (
            (later["jobId"], 409),
            (failed["jobId"], 409),
            (expired, 410),
        ):
            async with anns.http.post(f"/exports/{id}/links") as answer:
                assert answer.status == answered
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            conn.execute("select create_link(%s)", [later["jobId"]])


async def test_links_without_keys(start: Start, conn: Conn) -> None:
    service = await start()
    id = await completed(service)
    link = await link_to(service, id)
    assert await status(service, link["url"]) == 200
    assert (await logged(service, id, "downloaded"))["actor"] is None
    assert conn.execute(
        "select made_by, made_with, expires_at - created_at from export_links"
    ).fetchone() == ("postgres", None, timedelta(days=1))


async def test_the_command_prints_a_link(
    start: Start, conn: Conn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await start(auth="keys")
    made = make_key(conn, "ann")
    monkeypatch.setenv("CSV_EXPORT_KEY", made.key)
    shell = Shell(service.url, tmp_path)
    async with asking(service, made) as anns:
        id = await completed(anns)
    done = await shell.run("link", id, "--expires", "2h")
    url = done.out.decode().strip()
    assert url.startswith(f"{service.url}/links/") and await status(service, url) == 200
    assert conn.execute(
        "select expires_at - created_at from export_links"
    ).fetchone() == (timedelta(hours=2),)
    shown = (await shell.run("link", id, "--json")).json
    assert shown["url"].startswith(f"{service.url}/links/") and shown["expiresAt"]
    done = await shell.run("link", id, "--expires", "31d", code=1)
    assert b"expiresIn" in done.err
    await shell.run("link", id, "--expires", "soon", code=2)
    for arguments in (["activity"], ["activity", id]):
        lines = (await shell.run(*arguments)).out.decode().splitlines()
        assert lines[0].split() == ["AT", "ACTION", "WHO", "FROM", "EXPORT", "SIZE"]
        assert "link-made" in lines[1] and "127.0.0.1" in lines[1] and id in lines[1]
        assert any("downloaded" in line and "(a stranger)" in line for line in lines)
    found = (await shell.run("activity", "--action", "submitted", "--json")).json
    assert [one["export"] for one in found] == [id]
    assert (await shell.run("activity", "--requester", "bob", "--json")).json == []
    done = await shell.run("activity", "--action", "praised", code=1)
    assert b"action" in done.err
