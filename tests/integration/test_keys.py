"""Keys: who may do what, and whose exports they see."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import psycopg
import pytest

from service.api import access
from service.api.askers import Asker, Need
from service.app import StartError
from service.model import Key

from ..conftest import PATIENCE, Service, Start, eventually

pytestmark = pytest.mark.newest

Conn = psycopg.Connection[Any]

SCOPES = ("read", "export", "download")


class Made(NamedTuple):
    id: str
    key: str


def make_key(
    conn: Conn, requester: str, *scopes: str, expires_in: str | None = None
) -> Made:
    row = conn.execute(
        "select * from create_key(%s, %s, %s::interval)",
        [requester, list(scopes or SCOPES), expires_in],
    ).fetchone()
    assert row
    return Made(*row)


@pytest.fixture
async def service(start: Start) -> Service:
    return await start(auth="keys")


@asynccontextmanager
async def asking(service: Service, made: Made | None) -> AsyncIterator[Service]:
    headers = {"Authorization": f"Bearer {made.key}"} if made else {}
    async with aiohttp.ClientSession(service.url, headers=headers) as http:
        yield Service(service.url, http, service.settings, service.database)


# What is answered to each kind of key, by what a route needs.
KINDS = (
    "none", "wrong", "expired", "revoked", "read", "export", "download", "all",
    "other", "admin",
)  # fmt: skip


def expected(kind: str, need: Need, is_of_an_export: bool) -> int | None:
    """Return the problem that is answered; None: it is done."""
    if need == "nothing":
        return None
    if kind in ("none", "wrong", "expired", "revoked"):
        return 401
    if need == "admin" and kind != "admin":
        return 403
    if need != "any" and kind in SCOPES and kind != need:
        return 403
    return 404 if kind == "other" and is_of_an_export else None


async def test_every_route_answers_every_kind_of_key(
    service: Service, conn: Conn
) -> None:
    """A new route is tried as well: those that are served are asked."""
    keys: dict[str, Made | None] = {
        "none": None,
        "wrong": Made("", f"csv_{'0' * 12}_{'0' * 72}"),
        "expired": make_key(conn, "ann", expires_in="-1 s"),
        "revoked": make_key(conn, "ann"),
        "all": make_key(conn, "ann"),
        "other": make_key(conn, "bob"),
        "admin": make_key(conn, "eve", "admin"),
    } | {scope: make_key(conn, "ann", scope) for scope in SCOPES}
    assert keys["revoked"]
    conn.execute("select revoke_key(%s)", [keys["revoked"].id])
    found = []
    for (method, path), need in access.NEEDS.items():
        for kind in KINDS:
            async with asking(service, keys["all"]) as owner:
                export = await owner.export(query="select 1 as n")
                await owner.ended(export["jobId"])
            of_keys = path.startswith("/keys/")
            id = make_key(conn, "ann").id if of_keys else export["jobId"]
            url = path.replace("{id}", id).replace("{name}", "ann")
            if "link" in path:
                link, token = conn.execute(
                    "select id, token from create_link(%s)", [export["jobId"]]
                ).fetchone() or ("", "")
                url = url.replace("{link}", link).replace("{token}", token)
            if path == "/web":
                url = "/web/app.js"
            async with asking(service, keys[kind]) as asker:
                body = {
                    "/exports": {"query": "select 1"},
                    "/keys": {"requester": "ann"},
                }.get(path)
                async with asker.http.request(
                    method,
                    url,
                    json=body if method in ("POST", "PATCH") else None,
                ) as answer:
                    told = answer.status if answer.status in (401, 403, 404) else None
                    if told:
                        problem = await answer.json()
                        assert problem["status"] == told
                    if answer.status == 401:
                        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
                    if answer.status == 403:
                        assert need in problem["detail"] and problem["scope"] == need
            wanted = expected(kind, need, path.startswith("/exports/{id}"))
            if told != wanted:
                found.append((method, path, kind, told, wanted))
    assert not found


def test_no_route_is_forgotten() -> None:
    """`create_app` refuses to serve a route without a need."""
    app = aiohttp.web.Application()

    async def handler(_request: aiohttp.web.Request) -> aiohttp.web.Response:
        raise AssertionError

    app.router.add_get("/new", handler)
    with pytest.raises(KeyError, match="/new"):
        access.check(app)


async def test_requesters_see_their_own_exports_alone(
    service: Service, conn: Conn
) -> None:
    ann, bob, eve = (make_key(conn, name) for name in ("ann", "bob", "eve"))
    boss = make_key(conn, "boss", "admin")
    async with asking(service, ann) as anns, asking(service, bob) as bobs:
        mine = await anns.export(query="select 1 as mine")
        hers = await bobs.export(query="select 2 as hers")
    assert mine["requestedBy"] == "ann" and hers["requestedBy"] == "bob"

    async def listed(made: Made, **query: str) -> set[str]:
        async with asking(service, made) as asker:
            async with asker.http.get("/exports", params=query) as answer:
                return {one["requestedBy"] for one in (await answer.json())["exports"]}

    assert await listed(ann) == {"ann"}
    assert await listed(ann, requestedBy="ann") == {"ann"}
    assert await listed(ann, requestedBy="bob") == set()
    assert await listed(ann, source="users") == set()
    assert await listed(eve) == set()
    assert await listed(boss) == {"ann", "bob"}
    assert await listed(boss, requestedBy="bob") == {"bob"}


async def test_two_requesters_may_use_the_same_idempotency_key(
    service: Service, conn: Conn
) -> None:
    answers = []
    for made in (make_key(conn, "ann"), make_key(conn, "bob")):
        async with asking(service, made) as asker:
            for _ in range(2):
                async with asker.http.post(
                    "/exports",
                    json={"query": "select 1"},
                    headers={"Idempotency-Key": "nightly"},
                ) as answer:
                    assert answer.status == 202
                    told = await answer.json()
                    answers.append((told["requestedBy"], told["jobId"]))
    assert answers[0] == answers[1] and answers[2] == answers[3]
    assert [name for name, _ in answers] == ["ann", "ann", "bob", "bob"]
    assert answers[0][1] != answers[2][1]


async def test_nobody_asks_in_the_name_of_another(service: Service, conn: Conn) -> None:
    async with asking(service, make_key(conn, "ann")) as anns:
        async with anns.http.post(
            "/exports", json={"query": "select 1", "requestedBy": "bob"}
        ) as answer:
            assert answer.status == 422
        export = await anns.export(
            query="select set_config('exports.requester', 'bob', false)"
        )
        await anns.ended(export["jobId"])
        later = await anns.export(query="select 1")
    assert export["requestedBy"] == later["requestedBy"] == "ann"


async def events(answer: aiohttp.ClientResponse, *until: str) -> str:
    """Return what the stream says until all of *until* were said."""
    text = ""
    async with asyncio.timeout(PATIENCE):
        async for line in answer.content:
            text += line.decode()
            if all(one in text for one in until):
                break
    return text


async def test_streams_tell_of_ones_own_exports_alone(
    service: Service, conn: Conn
) -> None:
    ann, bob = make_key(conn, "ann"), make_key(conn, "bob")
    boss = make_key(conn, "boss", "admin")
    async with (
        asking(service, ann) as anns,
        asking(service, bob) as bobs,
        asking(service, boss) as all_,
        anns.http.get("/events") as mine,
        all_.http.get("/events") as everybodys,
    ):
        hers = await bobs.export(query="select 2")
        await bobs.ended(hers["jobId"])
        async with bobs.http.delete(f"/exports/{hers['jobId']}") as answer:
            assert answer.status == 204
        mine_too = await anns.export(query="select 1")
        await anns.ended(mine_too["jobId"])
        async with anns.http.delete(f"/exports/{mine_too['jobId']}") as answer:
            assert answer.status == 204
        gone = f'{{"jobId":"{mine_too["jobId"]}"}}'
        heard = await events(mine, gone)
        heard_by_all = await events(everybodys, gone)
    assert hers["jobId"] not in heard
    assert f'{{"jobId":"{hers["jobId"]}"}}' in heard_by_all


@pytest.mark.parametrize("how", ["revoke", "expire", "delete"])
async def test_a_key_that_ends_closes_what_it_opened(
    service: Service, conn: Conn, how: str
) -> None:
    made = make_key(conn, "ann")
    async with asking(service, made) as asker:
        async with asker.http.get("/events") as answer:
            assert answer.status == 200
            if how == "revoke":
                conn.execute("select revoke_key(%s)", [made.id])
            elif how == "expire":
                conn.execute("update requester_keys set expires_at = now()")
            else:
                conn.execute("delete from requesters")
            async with asyncio.timeout(30):
                with pytest.raises(aiohttp.ClientError):
                    await answer.content.read()
        async with asker.http.get("/exports") as refused:
            assert refused.status == 401


async def test_a_key_that_ends_ends_a_download(service: Service, conn: Conn) -> None:
    made = make_key(conn, "ann")
    async with asking(service, made) as asker:
        export = await asker.export(
            query="select repeat('x', 1000) from generate_series(1, 30000)"
        )
        await asker.ended(export["jobId"])
        async with asker.http.get(f"/exports/{export['jobId']}/download") as answer:
            await answer.content.readexactly(1000)
            conn.execute("select revoke_key(%s)", [made.id])
            keyring = "select count(*) from live_keys"
            assert conn.execute(keyring).fetchone() == (0,)

            async def refused() -> bool:
                async with aiohttp.ClientSession(service.url) as http:
                    bearer = {"Authorization": f"Bearer {made.key}"}
                    async with http.get("/me", headers=bearer) as told:
                        return told.status == 401

            await eventually(refused)
            with pytest.raises(aiohttp.ClientError):
                await answer.read()


async def test_a_key_that_was_seen_needs_no_query(
    service: Service, conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.queue.keyring.FRESH", 600.0)
    made = make_key(conn, "ann")
    me = {"requester": "ann", "scopes": ["download", "export", "read"], "by": "key"}
    async with asking(service, made) as asker:

        async def listens() -> bool:  # else each key is looked up
            async with asker.http.get("/metrics") as answer:
                return "export_listener_connected 1.0" in await answer.text()

        await eventually(listens)
        async with asker.http.get("/me") as answer:
            assert me.items() <= (await answer.json()).items()
        with conn.transaction(force_rollback=True):
            conn.execute("lock table requester_keys")  # now a query would wait
            async with asker.http.get("/me") as answer:
                assert me.items() <= (await answer.json()).items()
    used = "select last_used_at >= created_at from requester_keys where id = %s"
    assert conn.execute(used, [made.id]).fetchone() == (True,)


async def test_a_rotated_key_overlaps_with_the_new_one(
    service: Service, conn: Conn
) -> None:
    first = make_key(conn, "ann", "read")
    row = conn.execute("select * from rotate_key(%s)", [first.id]).fetchone()
    assert row
    second = Made(*row)

    async def works(made: Made) -> int:
        async with asking(service, made) as asker, asker.http.get("/exports") as answer:
            return answer.status

    assert await works(first) == await works(second) == 200
    conn.execute(
        "update requester_keys set expires_at = now() where id = %s", [first.id]
    )

    async def ended() -> bool:
        return await works(first) == 401

    await eventually(ended)
    assert await works(second) == 200
    assert conn.execute("select * from rotate_key(%s)", [first.id]).fetchone() == (
        None,
        None,
    )


async def test_a_deleted_export_is_told_to_its_requester(
    service: Service, conn: Conn
) -> None:
    """Also if too many are deleted at once for a notification of each."""
    async with asking(service, make_key(conn, "ann")) as anns:
        later = "2100-01-01T00:00:00Z"
        made = [
            (await anns.export(query="select 1", runAt=later))["jobId"]
            for _ in range(25)
        ]
        async with anns.http.get("/events") as mine:
            await events(mine, *made)
            conn.execute("delete from exports")
            await events(mine, *(f'{{"jobId":"{id}"}}' for id in made))


async def test_administrators_make_keys_over_http(service: Service, conn: Conn) -> None:
    async with asking(service, make_key(conn, "eve", "admin")) as boss:
        wanted = {"requester": "ann", "scopes": ["read"], "expiresIn": 60, "label": "x"}
        async with boss.http.post("/keys", json=wanted) as answer:
            assert answer.status == 201
            assert answer.headers["Cache-Control"] == "no-store"
            made = Made(**await answer.json())
        async with asking(service, made) as anns, anns.http.get("/me") as answer:
            assert (await answer.json())["scopes"] == ["read"]
        async with boss.http.post(f"/keys/{made.id}/rotate") as answer:
            assert answer.status == 201
        async with boss.http.delete(f"/keys/{made.id}") as answer:
            assert answer.status == 204
        for method, path in (("DELETE", ""), ("POST", "/rotate")):
            async with boss.http.request(method, f"/keys/{made.id}{path}") as answer:
                assert answer.status == 404
        async with boss.http.get("/keys") as answer:
            text = await answer.text()
            listed = (await answer.json())["keys"]
        assert [one["requester"] for one in listed] == ["ann", "ann", "eve"]
        assert listed[0]["revokedAt"] and listed[0]["label"] == "x"
        assert made.key not in text and "digest" not in text
        for wrong in (
            {},
            {"requester": "a b"},
            {"requester": "ann", "scopes": []},
            {"requester": "ann", "scopes": ["write"]},
            {"requester": "ann", "expiresIn": 0},
            {"requester": "ann", "label": "x" * 101},
        ):
            async with boss.http.post("/keys", json=wrong) as answer:
                assert answer.status == 422


async def test_wrong_keys_are_counted_and_never_shown(
    service: Service, conn: Conn, caplog: pytest.LogCaptureFixture
) -> None:
    good = make_key(conn, "ann")
    wrong = good.key[:-1] + ("0" if good.key[-1] != "0" else "1")
    unknown = make_key(conn, "bob")
    conn.execute("delete from requester_keys where id = %s", [unknown.id])
    shown = [wrong, unknown.key, "csv_?", good.key + "\u00e9"]
    for key in shown:
        async with asking(service, None) as asker:
            async with asker.http.get(
                "/exports", headers={"Authorization": f"Bearer {key}"}
            ) as answer:
                assert answer.status == 401
                assert key not in await answer.text()
    async with asking(service, good) as asker, asker.http.get("/metrics") as answer:
        metrics = await answer.text()
    assert f"export_keys_refused_total {len(shown)}.0" in metrics
    assert "not accepted" in caplog.text
    for key in (*shown[:2], good.key):
        assert key not in caplog.text and key not in metrics


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic YW5uOng=", "Token x", "Bearer a b", "bearer\tx"],
)
async def test_whatever_the_header_says(service: Service, header: str) -> None:
    async with service.http.get("/me", headers={"Authorization": header}) as answer:
        assert answer.status == 401
        assert "WWW-Authenticate" in answer.headers


async def test_a_browser_signs_in_and_out(service: Service, conn: Conn) -> None:
    made = make_key(conn, "ann", expires_in="1 hour")
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(service.url, cookie_jar=jar) as browser:
        bearer = {"Authorization": f"Bearer {made.key}"}
        async with browser.post("/session", headers=bearer) as answer:
            assert answer.status == 204
            cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
        assert "Path=/" in cookie and "Secure" not in cookie
        assert made.key not in cookie
        assert "Max-Age=3599" in cookie or "Max-Age=3600" in cookie
        async with browser.get("/me") as answer:
            assert (await answer.json())["requester"] == "ann"
        async with browser.post("/session") as answer:
            assert answer.status == 409  # else nobody would have to sign in again
        async with browser.delete("/session") as answer:
            assert answer.status == 204
        name, value = cookie.split(";")[0].split("=", 1)
        async with browser.get("/me", headers={"Cookie": f"{name}={value}"}) as answer:
            assert answer.status == 401
            assert "Max-Age=0" in answer.headers["Set-Cookie"]
        secure = bearer | {
            "Origin": service.url.replace("http:", "https:").rstrip("/"),
            "Sec-Fetch-Site": "same-origin",
        }
        async with browser.post("/session", headers=secure) as answer:
            cookie = answer.headers["Set-Cookie"]
            assert cookie.startswith("__Host-") and "Secure" in cookie
        value = cookie.split(";")[0]
        headers = {"Cookie": f"csv_export_key=planted; {value}"}
        async with browser.get("/me", headers=headers) as answer:
            assert (await answer.json())["requester"] == "ann"
        conn.execute("select revoke_key(%s)", [made.id])

        async def ended() -> bool:
            async with browser.get("/me", headers=headers) as answer:
                return answer.status == 401

        await eventually(ended)


async def test_without_keys_nobody_is_asked(start: Start) -> None:
    service = await start(work=False)
    async with service.http.get("/me") as answer:
        assert await answer.json() == {
            "requester": None,
            "scopes": None,
            "by": None,
            "limits": None,
            "usage": None,
        }
    async with service.http.post("/keys", json={"requester": "ann"}) as answer:
        assert answer.status == 403
    async with service.http.post("/session") as answer:
        assert answer.status == 409 and "Set-Cookie" not in answer.headers


PROXIES: dict[str, Any] = {"auth": "proxy", "auth_proxies": "10.0.0.1, 127.0.0.0/8"}


async def test_a_proxy_names_the_requester(start: Start, conn: Conn) -> None:
    service = await start(**PROXIES)
    ann, bob = ({"X-Forwarded-User": f"{name}@example.com"} for name in ("ann", "bob"))
    body = {"query": "select 1"}
    async with service.http.post("/exports", json=body, headers=ann) as answer:
        export = await answer.json()
    assert export["requestedBy"] == "ann@example.com"
    for headers, status in ((ann, 200), (bob, 404), ({}, 401)):
        async with service.http.get(
            f"/exports/{export['jobId']}", headers=headers
        ) as answer:
            assert answer.status == status
    async with service.http.get("/me", headers=ann) as answer:
        me = await answer.json()
    assert me["requester"] == "ann@example.com"
    assert me["scopes"] == ["download", "export", "read"]
    assert me["by"] == "proxy"
    assert me["usage"]["pending"] + me["usage"]["running"] <= 1
    for name in ("", " ", "a b", "ann,bob", "x" * 64, "\u00e9"):
        async with service.http.get(
            "/me", headers={"X-Forwarded-User": name}
        ) as answer:
            assert answer.status == 401
    async with service.http.get(
        "/exports", headers={"X-Forwarded-User": "csv_service"}
    ) as answer:
        assert answer.status == 403
    token = ann | {"Authorization": "Bearer of.the.proxy"}
    async with service.http.get("/me", headers=token) as answer:
        assert (await answer.json())["requester"] == "ann@example.com"
    async with service.http.post("/session", headers=ann) as answer:
        assert answer.status == 409
    async with asking(service, make_key(conn, "eve", "admin")) as boss:
        async with boss.http.get("/me", headers=ann) as answer:
            assert (await answer.json())["requester"] == "eve"


async def test_nobody_else_speaks_for_the_proxy(start: Start, conn: Conn) -> None:
    service = await start(auth="proxy", auth_proxies="10.0.0.1")
    async with service.http.get("/me", headers={"X-Forwarded-User": "ann"}) as answer:
        assert answer.status == 403
    async with asking(service, make_key(conn, "ann")) as anns:
        async with anns.http.get("/me") as answer:
            assert answer.status == 200


async def test_it_does_not_start_unprotected(start: Start) -> None:
    with pytest.raises(StartError, match="AUTH=keys"):
        await start(host="0.0.0.0")


def test_what_a_key_allows() -> None:
    needs: tuple[Need, ...] = ("any", "read", "export", "download")
    for scopes in itertools.chain.from_iterable(
        itertools.combinations(SCOPES, n) for n in range(1, 4)
    ):
        asker = Asker.of_key(Key("id", "ann", frozenset(scopes), None))
        allowed = {need for need in needs if asker.may(need)}
        assert allowed == {"any", *scopes} and asker.sees == "ann"
    stranger = Asker.stranger()
    assert not any(stranger.may(need) for need in needs[1:]) and stranger.sees == ""
    admin = Asker.of_key(Key("id", "ann", frozenset({"admin"}), None))
    assert all(admin.may(need) for need in needs) and admin.sees is None
