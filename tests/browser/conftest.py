"""A real browser; any error or warning in its console fails the test."""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from ..conftest import PATIENCE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# The browser itself logs failed requests; the page must show them to the user.
EXPECTED = "Failed to load resource"

Open = Callable[..., Awaitable[Page]]


@asynccontextmanager
async def launched(*arguments: str) -> AsyncIterator[Browser]:
    """A browser, started with more *arguments*."""
    sandbox = [] if os.getuid() else ["--no-sandbox"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*arguments, *sandbox]
        )
        yield browser
        await browser.close()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    expect.set_options(timeout=PATIENCE * 1000)
    async with launched() as browser:
        yield browser


@pytest.fixture
async def open_page(browser: Browser) -> AsyncIterator[Open]:
    """A function that opens a URL in a new browser context with the given options.

    At the end, no page may have run or requested anything that is not ours.
    """
    complaints: list[str] = []

    def watch(page: Page, host: str) -> None:
        async def dismiss(dialog: Any) -> None:
            complaints.append(f"dialog: {dialog.message}")
            await dialog.dismiss()

        def read(message: Any) -> None:
            if message.type in ("error", "warning") and EXPECTED not in message.text:
                complaints.append(message.text)

        def follow(request: Any) -> None:
            if urlsplit(request.url).netloc not in (host, ""):
                complaints.append(f"asked for {request.url}")

        page.on("dialog", dismiss)
        page.on("console", read)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", follow)

    async with AsyncExitStack() as stack:

        async def open_page(url: str, **options: Any) -> Page:
            context = await browser.new_context(**{"locale": "en-GB"} | options)
            stack.push_async_callback(context.close)
            page = await context.new_page()
            watch(page, urlsplit(url).netloc)
            await page.goto(url)
            return page

        yield open_page
    assert not complaints, complaints
