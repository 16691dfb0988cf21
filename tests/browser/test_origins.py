"""What another web page can do, in a real browser: nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from aiohttp import web
from playwright.async_api import Browser, Page

from ..conftest import Service, Start
from .conftest import launched

# A name of somebody else's that leads here, as in DNS rebinding.
EVIL = "evil.example"
ATTACKS = (
    "fetch('{url}/exports', {{method: 'POST', mode: 'no-cors'}})",
    "fetch('{url}/exports', {{method: 'POST', mode: 'no-cors', body: '{{}}'}})",
    "fetch('{url}/exports/{id}/cancel', {{method: 'POST', mode: 'no-cors'}})",
    "fetch('{url}/exports/{id}', {{method: 'DELETE'}})",
    "fetch('{url}/exports')",
    "fetch('{url}/exports/{id}/download')",
    "navigator.sendBeacon('{url}/exports')",
)
FORM = """
<form method="post" action="{url}/exports/{id}/cancel"><button>Win</button></form>
<script>
const frame = document.createElement("iframe");
frame.src = "{url}/";
document.body.append(frame);
</script>
"""


@pytest.fixture
async def rebound() -> AsyncIterator[Browser]:
    """A browser that finds this machine under the name `EVIL`."""
    async with launched(f"--host-resolver-rules=MAP {EVIL} 127.0.0.1") as browser:
        yield browser


@pytest.mark.newest
async def test_a_foreign_name_is_not_answered(
    service: Service, rebound: Browser
) -> None:
    page = await rebound.new_page()
    for path in ("/", "/sources", "/exports", "/events", "/metrics", "/docs"):
        answer = await page.goto(service.url.replace("127.0.0.1", EVIL) + path)
        assert answer and answer.status == 421, path
        assert "ALLOWED_HOSTS" in await answer.text()


@asynccontextmanager
async def evil_page(text: str) -> AsyncIterator[str]:
    """The URL of a page of somebody else's, with this text."""

    async def evil(_request: web.Request) -> web.Response:
        return web.Response(text=text, content_type="text/html")

    attack = web.Application()
    attack.router.add_get("/", evil)
    runner = web.AppRunner(attack)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://{EVIL}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def nothing_is_read(page: Page, script: str) -> None:
    read = await page.evaluate(
        f"async () => {{ try {{ const answer = await {script};"
        " return answer.type ? await answer.text() : ''; }"
        " catch (error) { return ''; } }"
    )
    assert read == "", script


@pytest.mark.newest
async def test_another_page_starts_cancels_and_reads_nothing(
    service: Service, rebound: Browser
) -> None:
    id = (await service.export(runAt="2999-01-01T00:00:00Z"))["jobId"]
    async with evil_page(FORM.format(url=service.url, id=id)) as url:
        page = await rebound.new_page()
        await page.goto(url)
        for one in ATTACKS:
            await nothing_is_read(page, one.format(url=service.url, id=id))
        async with page.expect_navigation() as navigated:
            await page.get_by_role("button", name="Win").click()
        answer = await navigated.value
        assert answer and answer.status == 403
    async with service.http.get("/exports") as listed:
        (export,) = (await listed.json())["exports"]
    assert (export["jobId"], export["status"]) == (id, "pending")


@pytest.mark.newest
async def test_another_page_has_no_use_of_a_session(
    start: Start, rebound: Browser, conn: psycopg.Connection[Any]
) -> None:
    """The browser is signed in, and sends the cookie for the service's own pages alone."""
    service = await start(auth="keys")
    row = conn.execute("select key from create_key('ann')").fetchone()
    assert row
    bearer = {"Authorization": f"Bearer {row[0]}"}
    body = {"query": "select 1", "runAt": "2999-01-01T00:00:00Z"}
    async with service.http.post("/exports", json=body, headers=bearer) as answer:
        id = (await answer.json())["jobId"]
    page = await rebound.new_page()
    await page.goto(service.url)
    await page.get_by_label("Key").fill(row[0])
    await page.get_by_role("button", name="Sign in").click()
    await page.locator("#list > li").wait_for()
    sent: list[Any] = []
    text = FORM.format(url=service.url, id=id)
    text += f'<a href="{service.url}/exports">Look</a>'
    async with evil_page(text) as url:
        await page.goto(url)
        page.on("request", lambda request: sent.append(request))
        for one in ATTACKS:
            script = one.format(url=service.url, id=id)
            for credentials in ("", ", credentials: 'include'"):
                await nothing_is_read(
                    page, script.replace("'POST'", f"'POST'{credentials}")
                )
        include = "{credentials: 'include'}"
        for path in ("/exports", f"/exports/{id}/download", "/events", "/me"):
            await nothing_is_read(page, f"fetch('{service.url}{path}', {include})")
        async with page.expect_navigation() as navigated:
            await page.get_by_role("button", name="Win").click()
        refused = await navigated.value
        assert refused and refused.status == 403
        await page.goto(url)
        async with page.expect_navigation() as navigated:
            await page.get_by_role("link", name="Look").click()
        refused = await navigated.value
        assert refused and refused.status == 401
        asked = [one for one in sent if one.url.startswith(service.url)]
        assert len(asked) > len(ATTACKS)
        for one in asked:
            assert "cookie" not in await one.all_headers(), one.url
    # Asked by the person, the same browser is still signed in.
    own = await page.goto(f"{service.url}/exports")
    assert own and own.status == 200 and id in await own.text()
    assert "cookie" in await own.request.all_headers()
    pending = "select count(*) from exports where status = 'pending'"
    assert conn.execute(pending).fetchone() == (1,)
