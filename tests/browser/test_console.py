"""The pages of accounts in a real browser: wide and narrow, light and dark, with JavaScript and without."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.service.accounts.paying import USAGE, answering, ask, initialized
from tests.service.console.stage import MODELS, PASSWORD, furnish
from tests.service.wire import BOUND_S, ScriptedUpstream, serving
from translator.service.accounts.bills import Counts, Price, amount
from translator.service.accounts.money import read_price, shown_down
from translator.service.accounts.room import ROOM
from translator.service.config.loading import read_table
from translator.service.config.store import Location
from translator.service.database.schema import migrate

from .conftest import Look
from .test_page import OVERFLOW, fits

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.anyio

MEMBER_PAGES = (
    *("/account/acct_1/", "/account/acct_1/keys", "/account/acct_1/keys/key_2"),
    *("/account/acct_1/keys/key_2/rotate", "/account/acct_1/keys/key_2/revoke"),
    *("/account/acct_1/channels?key=key_2", "/account/acct_1/usage", "/account/acct_1/ledger"),
    *("/account/acct_1/connect", "/account/password"),
)
OPERATOR_PAGES = (
    *("/account/operator", "/account/operator/acct_1", "/account/operator/acct_1/suspend"),
    *("/account/operator/users", "/account/operator/users/user_2", "/account/operator/channels"),
    *("/account/operator/prices", "/account/operator/health?reconcile=", "/account/operator/audit"),
)
WAYS = [
    *((1280, True, "light"), (1280, False, "dark"), (400, True, "dark"), (400, False, "light")),
]


@pytest.fixture(scope="session")
def stage_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with a provider's books."""
    file = tmp_path_factory.mktemp("stage") / "accounts.db"
    location = Location("sqlite", str(file))
    migrate(location, ROOM)
    initialized(location)
    furnish(location, days=10)
    return file


@pytest.fixture
async def gateway(stage_file: Path, tmp_path: Path) -> AsyncIterator[str]:
    """The base URL of a service with books of its own; its upstream answers with the usage U."""
    file = tmp_path / "accounts.db"
    shutil.copy(stage_file, file)
    async with ScriptedUpstream().running() as upstream:
        upstream.script = answering(USAGE)
        table: dict[str, Any] = {
            "upstreams": {"up": {"base_url": upstream.url, "api_key_env": "UP_KEY"}},
            "models": MODELS,
            "accounts": {"url": f"sqlite:///{file}", "checkpoint_s": 0.5, "lease_s": 5.0},
        }
        async with serving(read_table(table, {"UP_KEY": "of-the-operator"})) as url:
            yield url


@asynccontextmanager
async def _signed_in(look: Look, url: str, name: str, **options: Any) -> AsyncGenerator[Page]:
    async with look(f"{url}/account/", **options) as page:
        hosts: set[str] = set()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        await page.get_by_label("Name").fill(name)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("button", name="Sign out").wait_for()
        yield page
        assert hosts == {urlsplit(url).netloc}


def signed_in(
    look: Look, url: str, name: str = "anna", **options: Any
) -> AbstractAsyncContextManager[Page]:
    """A page of somebody who has signed in; no request leaves for another host."""
    return _signed_in(look, url, name, **options)


async def balance(page: Page) -> str:
    return (await page.locator("#balance strong").text_content() or "").strip()


async def left(page: Page) -> int:
    """What the header says in the finest unit: the title has all decimals."""
    title = await page.locator("#balance strong .amount").get_attribute("title") or ""
    whole, _, decimals = title.partition(".")
    return int(whole + decimals.ljust(12, "0"))


@pytest.mark.parametrize("script", [True, False])
async def test_real_browser(look: Look, gateway: str, script: bool) -> None:
    """Scenario 37: a key is made, used, seen in the balance, revoked, and refused."""
    price = Price(0, read_price("0.95"), read_price("0.16"), None, read_price("4.00"), 0, False)
    cost = amount(price, Counts(12_000, 8_000, 1_000, 500))
    async with (
        signed_in(look, gateway, script=script) as page,
        httpx.AsyncClient(base_url=gateway, timeout=BOUND_S) as client,
    ):
        before = await left(page)
        await page.get_by_role("link", name="API keys").click()
        await page.locator("#name").fill("from a browser")
        await page.get_by_role("button", name="Make a key").click()
        key = await page.locator("#new-key").text_content() or ""
        assert re.fullmatch(r"trk_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", key)
        answer = await ask(client, key, model="kimi-k2p6")
        assert answer.status_code == 200
        await page.get_by_role("link", name="Usage").click()
        for _ in range(50):
            if await left(page) != before:
                break
            await page.reload()
        assert before - await left(page) == cost
        assert await balance(page) == f"{shown_down(before - cost)} USD"
        assert "from a browser" in (
            await page.locator(".requests tbody tr").first.text_content() or ""
        )
        await page.get_by_role("link", name="API keys").click()
        await page.get_by_role("link", name="from a browser").click()
        await page.get_by_role("link", name="Revoke").click()
        await page.get_by_role("button", name="Revoke this key").click()
        await page.get_by_text("The key is revoked.").wait_for()
        assert (await ask(client, key, model="kimi-k2p6")).status_code == 401
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_text("You are signed out.").wait_for()
        await page.goto(f"{gateway}/account/acct_1/")
        await page.get_by_role("heading", name="Sign in").wait_for()


@pytest.mark.parametrize(("width", "script", "scheme"), WAYS)
async def test_every_page_fits_and_is_accessible(
    look: Look, gateway: str, width: int, script: bool, scheme: str
) -> None:
    """Nothing is wider than the window, and axe finds no fault: names, roles, contrast.

    In the dark on a part of them: all have the same colours.
    """
    from axe_playwright_python.async_playwright import Axe

    options = {"width": width, "script": script, "color_scheme": scheme}
    problems: dict[str, Any] = {}
    for name, paths in (("anna", MEMBER_PAGES), ("olga", OPERATOR_PAGES)):
        async with signed_in(look, gateway, name, **options) as page:
            for path in paths:
                answer = await page.goto(f"{gateway}{path}")
                assert answer is not None
                assert answer.status == 200
                if not script:  # then nothing can be asked of the page
                    assert await page.locator("h1").count() == 1
                    continue
                await fits(page)
                wide = await page.evaluate(OVERFLOW.replace("thead'", "thead, .scroll'"))
                assert wide == [], path
                if width < 1280 and path not in paths[::3]:  # axe takes a second for each
                    continue
                found = await Axe().run(page)
                assert len(found.response["passes"]) > 15
                for one in found.response["violations"]:
                    nodes = [node["html"][:150] for node in one["nodes"]][:3]
                    problems.setdefault(f"{path} {one['id']}", nodes)
    assert problems == {}


async def test_the_sign_in_page(look: Look, gateway: str) -> None:
    """It is accessible, says what was wrong, and keeps the name."""
    from axe_playwright_python.async_playwright import Axe

    with pytest.raises(AssertionError, match="401"):  # in the console, by the browser
        async with look(f"{gateway}/account/acct_1/usage", width=400) as page:
            assert (await Axe().run(page)).response["violations"] == []
            await page.get_by_label("Name").fill("anna")
            await page.get_by_label("Password").fill("not the right one")
            await page.get_by_role("button", name="Sign in").click()
            await page.get_by_text("The name or the password is not right.").wait_for()
            assert await page.get_by_label("Name").input_value() == "anna"
            await page.get_by_label("Password").fill(PASSWORD)
            await page.get_by_role("button", name="Sign in").click()
            await page.get_by_role("heading", name="Usage").wait_for()


async def test_a_host_without_tls_is_told_what_it_needs(browser: Browser, gateway: str) -> None:
    """A browser keeps the cookie on this machine or over HTTPS; elsewhere the page says so."""
    context = await browser.new_context()
    try:
        page = await context.new_page()
        await page.goto(gateway.replace("127.0.0.1", "evil.example") + "/account/")
        await page.get_by_label("Name").fill("anna")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_text("It keeps it over HTTPS").wait_for()
    finally:
        await context.close()
