"""The page at `/`, looked at in a real browser: wide and narrow, with JavaScript and without."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.service.responses_api import ASK
from tests.service.test_page import (
    ODD,
    SECRET_WORDS,
    TELLING,
    Held,
    asked,
    settings_of,
    with_clients,
)
from tests.service.wire import ScriptedUpstream, make_settings, serving

from .conftest import BOUND_MS, Look

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.anyio

LONG = "accounts/fireworks/models/" + "a-very-long-name-without-any-space-" * 4
NAMES = ["small", ODD, LONG, "</script><script>alert(1)</script>", "tab\there \u202e", "模型"]
ODD_MODELS: dict[str, Any] = {
    name: {"upstream": "up", "context_window": 262144, "max_output_tokens": 32768} for name in NAMES
}
WAYS = [(1280, True), (1280, False), (400, True), (400, False)]

OVERFLOW = """() => {
    const root = document.documentElement;
    return [...document.querySelectorAll('body *')]
        .filter((one) => one.getBoundingClientRect().right > root.clientWidth + 1)
        .filter((one) => !one.closest('pre, .hidden-text, .skip, thead'))
        .map((one) => one.outerHTML.slice(0, 80));
}"""


async def holds(page: Page, condition: str) -> None:
    """Wait until an expression is true.

    `wait_for_function` would evaluate it in the page, whose content policy forbids that, unless it
    is true at once.
    """
    async with asyncio.timeout(BOUND_MS / 1000):
        while not await page.evaluate(condition):
            await asyncio.sleep(0.02)


async def fits(page: Page) -> None:
    """Nothing is wider than the window."""
    size = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    whole, seen = await page.evaluate(size)
    assert whole <= seen


@pytest.mark.parametrize(("width", "script"), WAYS)
async def test_the_page_in_each_way(look: Look, width: int, script: bool) -> None:
    """Odd names are text, nothing overflows, no word of a conversation is there."""
    async with ScriptedUpstream().running() as upstream:
        upstream.script = held = Held()
        settings = make_settings(upstream.url, models=ODD_MODELS)
        async with serving(settings) as url, asked(url, TELLING | {"model": ODD}):
            async with asked(url, ASK | {"model": LONG}):
                async with look(url, width=width, script=script) as page:
                    await page.locator("#live-rows .answering").nth(1).wait_for()
                    assert await page.locator("#live-rows tr").count() == 2
                    assert await page.locator("#live-rows code").first.text_content() == ODD[:80]
                    names = await page.locator("#models-rows code").all_text_contents()
                    assert names[:3] == [
                        name if len(name) <= 120 else f"{name[:119]}…" for name in NAMES[:3]
                    ]
                    assert names[4] == "tab\\there \\u202e"
                    assert await page.locator("script").count() == 1
                    assert await page.locator("section img").count() == 0
                    text = await page.content()
                    assert not [word for word in SECRET_WORDS if word in text]
                    if script:  # else nothing can be asked of the page
                        await fits(page)
                        assert await page.evaluate(OVERFLOW) == []
                    assert await page.locator(".panel:visible").count() == 1
                    await page.locator("label", has_text="curl").click()
                    assert await page.locator("#text-curl").is_visible()
                    assert not await page.locator("#text-codex").is_visible()
                    assert await page.locator("button.copy:visible").count() == (2 if script else 0)
                held.end.set()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
async def test_it_is_accessible(look: Look, scheme: str, width: int) -> None:
    """By the rules of axe: names, roles, contrast."""
    from axe_playwright_python.async_playwright import Axe

    async with ScriptedUpstream().running() as upstream:
        deltas = {"reasoning_content": "thoughtword " * 8}, {"content": "answerword " * 8}
        upstream.script = held = Held(deltas[0])
        async with serving(settings_of(upstream.url)) as url, asked(url, ASK | {"model": "small"}):
            async with look(url, width=width, color_scheme=scheme, reduced_motion="reduce") as page:
                await page.locator("#live-rows .thinking").wait_for()
                found = await Axe().run(page)
                seen = [
                    (one["id"], [node["html"] for node in one["nodes"]])
                    for one in found.response["violations"]
                ]
                assert seen == []
                assert len(found.response["passes"]) > 20
            held.end.set()


async def test_a_button_copies_the_text_that_stands_there(look: Look) -> None:
    async with ScriptedUpstream().running() as upstream:
        async with serving(make_settings(upstream.url, models=ODD_MODELS)) as url:
            rights = ["clipboard-read", "clipboard-write"]
            async with look(url, permissions=rights) as page:
                clipboard = "navigator.clipboard.readText()"
                await page.get_by_role("button", name="Copy the base URL").click()
                await page.locator("button.copied").wait_for()
                assert await page.evaluate(clipboard) == f"{url}/v1"
                await page.locator("#model").select_option(ODD)
                await holds(
                    page, "document.getElementById('text-node').textContent.includes('onerror')"
                )
                content = json.loads(
                    await (
                        await page.request.get(f"{url}/page/content", params={"model": ODD})
                    ).text()
                )
                for snippet in content["snippets"]:
                    await page.locator(f"label[for=client-{snippet['id']}]").click()
                    panel = page.locator(".panel:visible")
                    await panel.get_by_role("button").click()
                    await panel.locator("button.copied").wait_for()
                    assert await page.evaluate(clipboard) == snippet["text"], snippet["id"]


async def test_without_javascript_a_button_chooses_the_model(look: Look) -> None:
    async with ScriptedUpstream().running() as upstream:
        async with serving(settings_of(upstream.url)) as url:
            async with look(url, script=False) as page:
                await page.locator("#model").select_option("org/large")
                await page.get_by_role("button", name="Show").click()
                assert 'model = "org/large"' in (
                    await page.locator("#text-codex").text_content() or ""
                )
                await page.get_by_role("link", name="Refresh").click()
                assert page.url == f"{url}/"


async def test_a_row_comes_and_goes_with_its_answer(look: Look) -> None:
    async with ScriptedUpstream().running() as upstream:
        upstream.script = held = Held()
        async with serving(settings_of(upstream.url)) as url, look(url) as page:
            state = page.locator("#live-state")
            await holds(
                page,
                "document.getElementById('live-state').textContent === 'Nothing at the moment'",
            )
            async with asked(url, ASK | {"model": "small"}):
                row = page.locator("#live-rows tr")
                await row.locator(".answering").wait_for()
                assert await state.text_content() == "1 answer"
                assert "small" in (await row.text_content() or "")
                held.end.set()
            await row.wait_for(state="detached")
            assert await state.text_content() == "Nothing at the moment"


async def test_it_says_when_the_service_does_not_answer_and_goes_on_when_it_does(
    look: Look,
) -> None:
    async with ScriptedUpstream().running() as upstream:
        async with serving(settings_of(upstream.url)) as url:
            with pytest.raises(AssertionError, match="503"):  # in the console, by the browser
                async with look(url) as page:
                    await holds(page, "sample !== null")
                    await page.route("**/page/live", lambda route: route.fulfill(status=503))
                    await page.evaluate("stopWatching(); watch()")
                    await page.get_by_text("status 503").wait_for()
                    await page.unroute("**/page/live")
                    await page.get_by_text("Nothing at the moment").wait_for()


async def test_the_keyboard_is_enough(look: Look) -> None:
    async with ScriptedUpstream().running() as upstream:
        async with serving(settings_of(upstream.url)) as url, look(url) as page:
            await page.keyboard.press("Tab")
            assert await page.locator(".skip").evaluate("one => one === document.activeElement")
            await page.locator("#client-codex").focus()
            await page.keyboard.press("ArrowRight")
            assert await page.locator("#text-opencode").is_visible()
            await page.keyboard.press("Tab")
            name = "document.activeElement.textContent"
            assert await page.evaluate(name) == "Copy the set-up of OpenCode"


async def test_a_key_shows_its_own_requests_and_stays_in_the_page(look: Look) -> None:
    async with ScriptedUpstream().running() as upstream:
        upstream.script = held = Held()
        settings, [key, other] = with_clients(upstream.url)
        async with serving(settings) as url, asked(url, ASK, key=key):
            async with look(url, width=400) as page:
                assert await page.locator("#live-rows tr").count() == 0
                assert "MODEL" in (await page.locator("#text-curl").text_content() or "")
                await page.get_by_label("Key").fill(key)
                await page.keyboard.press("Enter")
                await page.locator("#live-rows .answering").wait_for()
                assert "listed" in (await page.locator("#text-curl").text_content() or "")
                assert await page.get_by_label("Key").input_value() == ""
                assert await page.get_by_text("The key is in use").is_visible()
                assert await page.get_by_role("link", name="Metrics").count() == 0
                assert key not in page.url + await page.content()
                stored = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
                assert key not in await page.evaluate(stored)
                await page.get_by_label("Key").fill(other)
                await page.keyboard.press("Enter")
                await page.locator("#live-rows tr").wait_for(state="detached")
                await fits(page)
                await page.reload()
                assert await page.locator("#live-rows tr").count() == 0
            async with look(url, script=False) as page:
                assert not await page.get_by_label("Key").is_visible()
                assert await page.get_by_text("the page needs JavaScript").is_visible()
            held.end.set()


async def test_a_wrong_key_is_said(look: Look) -> None:
    async with ScriptedUpstream().running() as upstream:
        settings, _ = with_clients(upstream.url)
        async with serving(settings) as url:
            with pytest.raises(AssertionError, match="401"):  # in the console, by the browser
                async with look(url) as page:
                    await page.get_by_label("Key").fill("trk_wrong")
                    await page.keyboard.press("Enter")
                    await page.get_by_text("Incorrect API key provided.").wait_for()


STEAL = """async ([url, path]) => {
    try {
        const answer = await fetch(url + path);
        return await answer.text();
    } catch (error) {
        return 'no: ' + error.name;
    }
}"""


async def test_no_other_page_reads_it(look: Look) -> None:
    """Neither one of another origin, nor one that forges the name of the service."""
    async with ScriptedUpstream().running() as upstream:
        async with serving(settings_of(upstream.url, cors_origins=["*"])) as url:
            port = url.rpartition(":")[2]
            with pytest.raises(AssertionError, match="404"):
                async with look(f"http://evil.example:{port}/") as page:
                    assert "Unknown path" in await page.content()
                    for path in ("/", "/page/live", "/page/content"):
                        assert "Unknown path" in await page.evaluate(STEAL, ["", path])
            with pytest.raises(AssertionError, match="404"):
                async with look(f"{url}/nothing") as page:  # some page of another origin
                    other = f"http://localhost:{port}"
                    for path in ("/", "/page/live", "/page/content"):
                        assert await page.evaluate(STEAL, [other, path]) == "no: TypeError"


async def test_the_feed_is_closed_while_nobody_sees_the_page(look: Look) -> None:
    async with ScriptedUpstream().running() as upstream:
        async with serving(settings_of(upstream.url)) as url, look(url) as page:
            await holds(page, "sample !== null && feed !== null")
            await page.evaluate(
                "Object.defineProperty(document, 'hidden', { value: true, configurable: true });"
                "document.dispatchEvent(new Event('visibilitychange'))"
            )
            assert await page.evaluate("feed === null")
            await page.evaluate(
                "delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))"
            )
            await holds(page, "feed !== null")
