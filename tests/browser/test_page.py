"""The page, as people use it."""

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.async_api import Locator, Page, Route, expect
from psycopg import sql

from ..conftest import DAMMED, Service, Start, dam, eventually, psql_copy
from ..crash.world import World
from .conftest import CHROMIUM, Open

pytestmark = [
    pytest.mark.timeout(400),  # a browser on a slow machine
    pytest.mark.newest,
    pytest.mark.skipif(
        CHROMIUM is None and "REQUIRE_POSTGRES" not in os.environ,
        reason="there is no chromium",
    ),
]

AXE = "axe-core@4.14.1"
HOSTILE = "<img src=x onerror=alert(1)>\"'&lt;"
NARROW = {"width": 390, "height": 844}
UNTIL = re.compile


def card(page: Page, text: str = "") -> Locator:
    """Return the card of the newest export that contains *text*."""
    return page.locator("#list > li").filter(has_text=text).first


def badge(page: Page, text: str = "") -> Locator:
    return card(page, text).locator("[data-part=status]")


async def is_live(page: Page) -> None:
    await expect(page.locator("#connection")).to_have_text("Live")
    await expect(page.locator("#list")).not_to_have_attribute("data-state", "loading")


async def write(page: Page, query: str) -> None:
    await page.get_by_role("radio", name="Query").check()
    await page.get_by_label("SELECT", exact=True).fill(query)


async def submit(page: Page, query: str | None = None) -> None:
    """Start an export of *query*, or of the selected table if there is none."""
    if query:
        await write(page, query)
    else:
        await expect(page.locator("#first-rows tbody tr").first).to_be_visible()
    await page.get_by_role("button", name="Start export").click()


async def only(service: Service) -> dict[str, Any]:
    """Return the only export in the database."""
    async with service.http.get("/exports") as answer:
        [export] = (await answer.json())["exports"]
    return dict(export)


async def test_an_export_is_started_watched_and_downloaded(
    service: Service, open_page: Open, tmp_path: Path
) -> None:
    clipboard = ["clipboard-read", "clipboard-write"]
    page = await open_page(service.url, permissions=clipboard)
    await is_live(page)
    with dam(service.database):
        await submit(page, DAMMED)
        bar = card(page).get_by_role("progressbar")
        await expect(bar).to_have_attribute("aria-valuenow", UNTIL("[1-9]"))
        await expect(card(page)).to_contain_text("1,499 of about")
    await expect(badge(page)).to_have_text("Completed")
    await expect(card(page)).to_contain_text("Rows2,000")
    await expect(page.locator("#announcements")).to_contain_text("2,000 rows")
    link = card(page).get_by_role("link", name="Download")
    for button, copied in (
        ("link", await link.get_attribute("href")),
        ("sha", (await only(service))["sha256"]),
    ):
        await card(page).locator(f"[data-part={button}]").click()
        await expect(page.locator("#announcements")).to_contain_text("Copied")
        assert await page.evaluate("() => navigator.clipboard.readText()") == copied
    await card(page).get_by_role("button", name="Share").click()
    await expect(page.locator("#announcements")).to_contain_text("without a key")
    shared = await page.evaluate("() => navigator.clipboard.readText()")
    async with service.http.get(shared) as answer:
        assert answer.status == 200 and "/links/" in shared
    async with page.expect_download() as started:
        await link.click()
    download = await started.value
    await download.save_as(tmp_path / "downloaded")
    expected = psql_copy(service.database, "select * from users", tmp_path / "psql")
    assert (tmp_path / "downloaded").read_bytes() == expected
    assert re.fullmatch(r"query-\d{4}-\d\d-\d\d\.csv", download.suggested_filename)


async def test_columns_filters_order_limit_and_format(
    service: Service, open_page: Open
) -> None:
    page = await open_page(service.url)
    for section in ("Columns", "Filters", "Order and limit", "Options"):
        await page.locator("summary").filter(has_text=section).click()
    await page.get_by_role("button", name="Tick none").click()
    await expect(page.locator("#refusal")).to_contain_text("at least one column")
    for column in ("id", "country"):
        await page.locator("#columns").get_by_role("checkbox", name=column).check()
    for op in ("in", "between", "notNull"):
        await page.get_by_role("button", name="Add a filter").click()
        await page.get_by_label("Comparison").last.select_option(op)
        column = "id" if op == "between" else "country"
        await page.locator("#filters").get_by_label("Column").last.select_option(column)
    await page.get_by_label("Values, one a line").fill("DE\nFR")
    await page.get_by_label("From", exact=True).fill("10")
    await page.get_by_label("To", exact=True).fill("900")
    await page.get_by_role("button", name="Add a column").click()
    await page.get_by_label("Direction").select_option("descending")
    await page.get_by_label("No more rows than").fill("3")
    await page.get_by_label("Compression").select_option("gzip")
    await expect(page.locator("#select")).to_have_text(
        "select t.id, t.country from public.users as t"
        " where t.country in ('DE'::text, 'FR'::text)"
        " and t.id between '10'::bigint and '900'::bigint and t.country is not null"
        " order by t.id desc limit 3"
    )
    await expect(page.locator("#first-rows thead th")).to_have_text(
        ["idbigint", "countrytext"]
    )
    await expect(page.locator("#first-rows tbody tr")).to_have_count(3)
    await submit(page)
    await expect(badge(page)).to_have_text("Completed")
    export = await only(service)
    assert export["columns"] == ["id", "country"]
    assert export["orderBy"] == ["-id"]
    assert export["compression"] == "gzip"
    assert export["rows"] == 3


async def test_a_running_one_is_cancelled_retried_and_deleted(
    service: Service, open_page: Open
) -> None:
    page = await open_page(service.url)
    await is_live(page)
    with dam(service.database):
        await submit(page, DAMMED)
        await expect(card(page)).to_contain_text("1,499 of about")
        await card(page).get_by_role("button", name="Cancel").click()
        await expect(badge(page)).to_have_text("Cancelled")
        # The button has disappeared; the focus moves to its neighbor.
        await expect(card(page).get_by_role("button", name="Retry")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(badge(page)).to_have_text("Completed")
    await card(page).get_by_role("button", name="Delete").click()
    await page.get_by_role("button", name="Keep it").click()
    await expect(badge(page)).to_have_text("Completed")
    await card(page).get_by_role("button", name="Delete").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.locator("#list > li")).to_have_count(0)
    await expect(page.get_by_text("No exports here yet")).to_be_visible()

    async def removed() -> bool:
        return not list(service.settings.exports_dir.iterdir())

    await eventually(removed)  # the page may know before the file is removed


async def test_what_went_wrong_is_told_in_the_words_of_postgresql(
    service: Service, open_page: Open, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("""
        create function stumble(integer) returns integer language plpgsql as
        $$ begin
            if $1 > 5 then
                raise 'it is dark' using hint = 'Take a lamp.', detail = 'No moon.';
            end if;
            return $1;
        end $$
        """)
    page = await open_page(service.url)
    await is_live(page)
    await write(page, "select id,\n  nam\nfrom users")
    await page.keyboard.press("Control+Enter")
    refusal = page.locator("#refusal")
    await expect(refusal.locator("pre")).to_have_text("LINE 2:   nam\n          ^")
    await expect(refusal).to_contain_text('column "nam" does not exist')
    await expect(refusal).to_contain_text('reference the column "users.name"')
    await expect(refusal).to_contain_text("42703")
    await submit(page, "select stumble(id::integer) from users")
    await expect(badge(page)).to_have_text("Failed")
    reason = card(page).locator("[data-part=reason]")
    for told in ("it is dark", "Hint: Take a lamp.", "Detail: No moon.", "P0001"):
        await expect(reason).to_contain_text(told)
    await card(page).get_by_text("Details").click()
    attempts = card(page).locator("tbody tr")
    await expect(attempts).to_have_count(1)
    await expect(attempts).to_contain_text("it is dark")


async def test_a_killed_server_comes_back(
    database: str, exports_dir: Path, open_page: Open
) -> None:
    with World(database, exports_dir) as world:
        server = world.start("serve")
        url = server.url()
        page = await open_page(url)
        await is_live(page)
        with dam(database):
            await submit(page, DAMMED)
            await expect(card(page)).to_contain_text("1,499 of about")
            server.kill()
            await expect(page.locator("#connection")).to_have_text("Offline")
            await expect(page.locator("#trouble")).to_contain_text("cannot be reached")
            world.start("serve", port=url.rpartition(":")[2])
            await is_live(page)
            await expect(page.locator("#trouble-text")).to_be_empty()
        await expect(badge(page)).to_have_text("Completed")
        await card(page).get_by_text("Details").click()
        await expect(card(page).locator("tbody tr")).to_have_count(2)
        world.check()


async def test_without_the_stream_it_polls(service: Service, open_page: Open) -> None:
    page = await open_page(service.url)
    await is_live(page)
    await page.route("**/events", lambda route: route.abort())
    await page.reload()
    await expect(page.locator("#connection")).to_have_text("Reconnecting")
    await service.export(source="users")
    await expect(badge(page)).to_have_text("Completed")
    away = {"status": 503, "title": "The database is away", "detail": "Wait."}
    await page.route("**/exports?*", lambda to: to.fulfill(status=503, json=away))
    await expect(page.locator("#trouble")).to_contain_text(
        "The database is away. Wait."
    )
    await expect(badge(page)).to_have_text("Completed")
    await page.unroute_all()
    await page.get_by_role("button", name="Try now").click()
    await is_live(page)
    await expect(page.locator("#trouble-text")).to_be_empty()


async def test_what_is_heard_outlives_what_was_read_before(
    service: Service, open_page: Open
) -> None:
    read, heard = asyncio.Event(), asyncio.Event()

    async def delay(route: Route) -> None:
        answer = await route.fetch()
        read.set()
        await heard.wait()
        await route.fulfill(response=answer)

    page = await open_page(service.url)
    await is_live(page)
    await page.route("**/exports?*", delay)
    with dam(service.database):
        export = await service.export(query=DAMMED)
        await page.reload()
        await read.wait()
        await expect(card(page)).to_contain_text("1,499 of about")
    await service.ended(export["jobId"])
    await expect(badge(page)).to_have_text("Completed")
    heard.set()
    await is_live(page)
    await expect(badge(page)).to_have_text("Completed")


async def test_what_is_heard_outlives_the_answer_to_its_start(
    service: Service, open_page: Open
) -> None:
    """Events show the end of the export before the page knows that it was accepted."""

    async def delay(route: Route) -> None:
        answer = await route.fetch()
        if route.request.method == "POST" and "dryRun" not in route.request.url:
            await expect(badge(page)).to_have_text("Completed")
        await route.fulfill(response=answer)

    page = await open_page(service.url)
    await is_live(page)
    await page.route("**/exports*", delay)
    await submit(page, "select 1")
    await expect(page.locator("#composer[aria-busy]")).to_have_count(0)
    await expect(badge(page)).to_have_text("Completed")


async def test_two_tabs_agree(service: Service, open_page: Open) -> None:
    # In separate windows, because a hidden tab draws only one frame per second.
    one = await open_page(service.url)
    other = await open_page(service.url)
    await is_live(one)
    await is_live(other)
    with dam(service.database):
        await submit(one, DAMMED)
        for page in (one, other):
            await expect(card(page)).to_contain_text("1,499 of about")
        await card(other).get_by_role("button", name="Cancel").click()
        for page in (one, other):
            await expect(badge(page)).to_have_text("Cancelled")
    await card(one).get_by_role("button", name="Delete").click()
    await one.get_by_role("dialog").get_by_role("button", name="Delete").click()
    for page in (one, other):
        await expect(page.locator("#list > li")).to_have_count(0)


async def test_hostile_text_stays_text(
    service: Service, open_page: Open, conn: psycopg.Connection[Any]
) -> None:
    name = sql.Identifier(HOSTILE)
    conn.execute(sql.SQL("create table {0} ({0} text)").format(name))
    conn.execute(sql.SQL("insert into {} values ({})").format(name, HOSTILE))
    conn.execute(sql.SQL("comment on table {} is {}").format(name, HOSTILE))
    conn.execute(sql.SQL("comment on column {0}.{0} is {1}").format(name, HOSTILE))
    conn.execute(sql.SQL("grant select on {} to csv_reader").format(name))
    conn.execute(
        sql.SQL(
            "create function cry() returns text language plpgsql as"
            " $$ begin raise {0} using hint = {0}, detail = {0}; end $$"
        ).format(sql.Literal(HOSTILE))
    )
    page = await open_page(service.url)
    await is_live(page)
    source = page.get_by_label("Source")
    [option] = await page.locator("option").filter(has_text="onerror").all()
    await source.select_option(await option.get_attribute("value"))
    await expect(page.locator("#source-comment")).to_contain_text(HOSTILE)
    await expect(page.locator("#first-rows th")).to_contain_text(HOSTILE)
    await expect(page.locator("#first-rows td")).to_have_text(HOSTILE)
    await submit(page)
    await expect(badge(page)).to_have_text("Completed")
    await card(page).get_by_text("Details").click()
    await expect(card(page).locator("h3")).to_contain_text("onerror")
    await submit(page, f"select cry() -- {HOSTILE}")
    await expect(badge(page)).to_have_text("Failed")
    await card(page).get_by_text("Details").click()
    for part in (
        "h3",
        "[data-part=message]",
        "[data-part=hint]",
        "tbody td:last-child",
    ):
        await expect(card(page).locator(part)).to_contain_text(HOSTILE)
    await card(page).get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("dialog")).to_contain_text(HOSTILE)
    await expect(page.locator("[src=x], [onerror]")).to_have_count(0)


async def test_a_person_signs_in_and_out(
    start: Start, open_page: Open, conn: psycopg.Connection[Any]
) -> None:
    service = await start(auth="keys")
    row = conn.execute("select * from create_key('ann', '{read,export}')").fetchone()
    assert row
    id, key = row
    conn.execute("insert into exports (query) values ('select 1 as of_somebody_else')")
    page = await open_page(service.url)
    field = page.get_by_label("Key")
    await expect(field).to_be_focused()
    await expect(page.locator("#main")).to_be_hidden()
    await field.fill(f"{key[:-1]}x")
    await field.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("This key is not accepted")
    await field.fill("clé")
    await field.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("This is not a key.")
    await field.fill(key)
    await page.get_by_role("button", name="Sign in").click()
    await is_live(page)
    await expect(page.locator("#account")).to_contain_text("ann")
    conn.execute("update requesters set max_pending = 12, max_bytes = 5000000")
    await page.get_by_role("button", name="ann").click()
    await expect(page.locator("#limits")).to_have_text(
        "Running0Waiting0 of 12Size of a fileup to 5.0 MB"
    )
    await page.keyboard.press("Escape")
    await expect(page.locator("#limits")).to_be_hidden()
    await expect(page.locator("#list > li")).to_have_count(0)
    await submit(page, "select 1 as mine")
    await expect(badge(page)).to_have_text("Completed")
    assert key not in await page.content()
    assert await page.evaluate("document.cookie") == ""
    await page.reload()
    await is_live(page)
    await expect(page.locator("#list > li")).to_have_count(1)
    await page.get_by_role("button", name="Sign out").click()
    await expect(field).to_be_visible()
    await expect(page.locator("#list > li")).to_have_count(0)
    await field.fill(key)
    await field.press("Enter")
    await is_live(page)
    conn.execute("select revoke_key(id) from live_keys")
    await expect(field).to_be_visible()


async def test_a_phone_never_scrolls_sideways(
    service: Service, open_page: Open
) -> None:
    await service.export(query=f"select 1 as a_{'long' * 14} -- {'long' * 100}")
    await service.export(query=f"select ('{'long' * 100}' || id)::integer from users")
    page = await open_page(service.url, viewport=NARROW, is_mobile=True)
    await expect(page.locator("#list > li")).to_have_count(2)
    await expect(badge(page)).to_have_text("Failed")
    # An unfinished filter refuses the preview, so the rows are awaited before it.
    await expect(page.locator("#first-rows tbody tr").first).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    for details in await page.locator("summary:visible").all():
        await details.click()
    await page.get_by_role("button", name="Add a filter").click()
    await page.get_by_label("Comparison").select_option("between")
    await page.get_by_role("button", name="Add a column").click()
    await expect(page.locator("#refusal strong")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    await page.get_by_role("radio", name="Query").check()
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    await page.goto(f"{service.url}/docs#refused")  # the type of a problem
    await expect(page.locator("tr:target")).to_contain_text("PostgreSQL refuses")
    assert await page.evaluate("document.documentElement.scrollWidth") == 390


WATCH = """
() => {
    window.touched = new Set();
    new MutationObserver((records) => {
        for (const { target } of records) {
            const element = target.nodeType === 1 ? target : target.parentElement;
            const card = element.closest("#list > li");
            if (card) window.touched.add(card);
        }
    }).observe(document.getElementById("list"), {
        subtree: true, childList: true, characterData: true, attributes: true,
    });
}
"""


async def test_a_thousand_exports_are_no_burden(
    start: Start, open_page: Open, conn: psycopg.Connection[Any]
) -> None:
    service = await start(work=False)
    conn.execute(
        "insert into exports (query) select 'select ' || n from generate_series(1, 1000) as n"
    )
    page = await open_page(service.url)
    await is_live(page)
    cards, older = page.locator("#list > li"), page.locator("#older")
    query = page.locator("#query")  # a search by label would look at every card
    await page.evaluate(WATCH)

    async def shown() -> bool:
        # A click does nothing while a page is being read.
        await older.evaluate("(button) => button.hidden || button.click()")
        return await cards.count() == 1000

    await eventually(shown, patience=120)
    # All exports change at once, while a user types.
    await page.get_by_role("radio", name="Query").check()
    conn.execute("update exports set status = 'cancelled'")
    await query.press_sequentially("select 1")
    await expect(page.locator("#list > li:not([data-status=cancelled])")).to_have_count(
        0
    )
    await expect(query).to_have_value("select 1")
    # One export changes, and the cards of the others are not touched.
    await page.evaluate("window.touched.clear()")
    await card(page, "select 999").get_by_role("button", name="Retry").click()
    await expect(badge(page, "select 999")).to_have_text("Pending")
    await expect(card(page, "select 999")).to_contain_text("Next")
    assert await page.evaluate("window.touched.size") == 1
    await page.get_by_role("radio", name="Pending").check()
    await expect(cards).to_have_count(1)


async def test_a_keyboard_is_enough(service: Service, open_page: Open) -> None:
    page = await open_page(service.url)
    await is_live(page)
    await expect(page.locator("#first-rows tbody tr").first).to_be_visible()

    async def tab_to(wanted: Locator) -> None:
        for _ in range(40):
            await page.keyboard.press("Tab")
            if await wanted.evaluate("(one) => one === document.activeElement"):
                return
        raise AssertionError("Tab does not lead there")

    await tab_to(page.get_by_role("radio", name="Table"))
    await page.keyboard.press("ArrowRight")
    await tab_to(page.get_by_label("SELECT", exact=True))
    await page.keyboard.type("select 1 as n")
    await tab_to(page.get_by_role("button", name="Start export"))
    await page.keyboard.press("Enter")
    await expect(badge(page)).to_have_text("Completed")
    await tab_to(card(page).get_by_role("link", name="Download"))
    async with page.expect_download():
        await page.keyboard.press("Enter")
    await tab_to(card(page).get_by_role("button", name="Delete"))
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#list > li")).to_have_count(0)


async def test_numbers_are_written_as_the_reader_does(
    service: Service, open_page: Open
) -> None:
    export = await service.export(source="users")
    await service.ended(export["jobId"])
    page = await open_page(service.url, locale="de-DE")
    await expect(card(page)).to_contain_text("Rows2.000")
    await expect(card(page)).to_contain_text(UNTIL(r"Size\d+,\d kB"))


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, for one test's pages."""
    folder = tmp_path_factory.mktemp("axe")
    subprocess.run(
        [
            "npm",
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            AXE,
        ],
        cwd=folder,
        check=True,
    )
    return (folder / "node_modules/axe-core/axe.min.js").read_text()


async def test_axe_finds_nothing(service: Service, open_page: Open, axe: str) -> None:
    await service.export(source="users")
    failing = await service.export(query="select 1 / (id - 9) from users")
    await service.ended(failing["jobId"])
    for scheme in ("light", "dark"):
        page = await open_page(service.url, color_scheme=scheme)
        await page.emulate_media(reduced_motion="reduce")
        await is_live(page)

        async def check() -> None:
            # Parts that wait for an answer are dimmed for a moment.
            await expect(
                page.locator(":is(#composer, #preview)[aria-busy]")
            ).to_have_count(0)
            found = await page.evaluate("() => axe.run()")
            assert not found["violations"], json.dumps(found["violations"], indent=1)

        await expect(badge(page, "id - 9")).to_have_text("Failed")
        for details in await page.locator("summary:visible").all():
            await details.click()
        await page.get_by_role("button", name="Add a filter").click()
        await expect(page.locator("#first-rows tbody tr").first).to_be_visible()
        await page.evaluate(axe)
        await check()
        await write(page, "select nam from users")
        await page.get_by_role("button", name="Preview").click()
        await expect(page.locator("#refusal")).to_contain_text("nam")
        await check()
        with dam(service.database):
            await submit(page, DAMMED)
            await expect(card(page)).to_contain_text("1,499 of about")
            await check()
            await card(page).get_by_role("button", name="Cancel").click()
            await expect(badge(page)).to_have_text("Cancelled")
        await card(page).get_by_role("button", name="Delete").click()
        await check()
        await page.goto(f"{service.url}/docs")
        await expect(page.locator("#shapes section").first).to_be_visible()
        await page.evaluate(axe)
        await check()
