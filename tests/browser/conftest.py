"""A real browser, shared by these tests, and pages in it that must not go wrong.

look        opens a page: `async with look(url, width=400, script=False) as page`; the block fails
            for any error in the browser's console, a breach of the content policy included
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from . import chromium

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

BOUND_MS = 20_000
"""Upper bound of one wait in the browser."""

Look = Callable[..., AbstractAsyncContextManager["Page"]]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


def _without(reason: str) -> NoReturn:
    """Skip, or fail where the run requires a browser."""
    if os.environ.get("TRANSLATOR_REQUIRE_BROWSER"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    if importlib.util.find_spec("playwright") is None:
        _without("Playwright is not installed: make install-browser")
    if (found := chromium.found()) is None:
        _without("there is no Chromium: make install-browser")
    from playwright.async_api import async_playwright

    program, environ = found
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program,
            # tests may run as root, in a container with a small /dev/shm
            args=[
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--no-proxy-server",
                "--host-resolver-rules=MAP evil.example 127.0.0.1",
            ],
            env=dict(environ),
        )
        yield browser
        await browser.close()


@pytest.fixture
def look(browser: Browser) -> Look:
    @asynccontextmanager
    async def looking(
        url: str, *, width: int = 1280, script: bool = True, **options: Any
    ) -> AsyncGenerator[Page]:
        context = await browser.new_context(
            viewport={"width": width, "height": 900}, java_script_enabled=script, **options
        )
        context.set_default_timeout(BOUND_MS)
        problems: list[str] = []
        page = await context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"dialog {dialog.message}"))
        page.on(
            "console",
            lambda said: problems.append(said.text) if said.type in ("error", "warning") else None,
        )
        try:
            await page.goto(url)
            yield page
            assert problems == []
        finally:
            await context.close()

    return looking
