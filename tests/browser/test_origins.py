"""What another web page can do, in a real browser: nothing."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from playwright.async_api import Browser

from ..conftest import Service
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


@pytest.mark.newest
async def test_another_page_starts_cancels_and_reads_nothing(
    service: Service, rebound: Browser
) -> None:
    id = (await service.export(runAt="2999-01-01T00:00:00Z"))["jobId"]
    attack = web.Application()
    text = FORM.format(url=service.url, id=id)

    async def evil(_request: web.Request) -> web.Response:
        return web.Response(text=text, content_type="text/html")

    attack.router.add_get("/", evil)
    runner = web.AppRunner(attack)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        page = await rebound.new_page()
        await page.goto(f"http://{EVIL}:{port}/")
        for one in ATTACKS:
            script = one.format(url=service.url, id=id)
            read = await page.evaluate(
                f"async () => {{ try {{ const answer = await {script};"
                " return answer.type ? await answer.text() : ''; }"
                " catch (error) { return ''; } }"
            )
            assert read == "", one
        async with page.expect_navigation() as navigated:
            await page.get_by_role("button", name="Win").click()
        answer = await navigated.value
        assert answer and answer.status == 403
    finally:
        await runner.cleanup()
    async with service.http.get("/exports") as listed:
        (export,) = (await listed.json())["exports"]
    assert (export["jobId"], export["status"]) == (id, "pending")
