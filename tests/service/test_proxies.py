"""The proxies of the environment: which request goes through one, and which of them are refused."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from translator.__main__ import main
from translator.service.config.loading import read_table
from translator.service.config.proxies import Proxies, is_loopback
from translator.service.config.settings import SettingsError

from .responses_api import ASK, events
from .wire import ScriptedUpstream, bounded, client_of, make_settings

PROXY = "http://proxy.test:3128"


def proxy_for(url: str, **environ: str) -> str | None:
    found = Proxies(environ).proxy_for(url)
    return None if found is None else found.url


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": PROXY}, PROXY),
        ({"ALL_PROXY": PROXY}, PROXY),
        ({"HTTP_PROXY": PROXY}, None),
        ({"HTTPS_PROXY": PROXY, "ALL_PROXY": "http://other.test"}, PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other.test"}, PROXY),
        ({"https_proxy": "", "HTTPS_PROXY": "http://other.test"}, None),
        ({"ALL_PROXY": "proxy.test:3128"}, PROXY),
        ({"ALL_PROXY": f" {PROXY} "}, PROXY),
    ],
)
def test_the_variable_of_the_scheme_counts(environ: dict[str, str], expected: str | None) -> None:
    assert proxy_for("https://api.test/v1", **environ) == expected


def test_a_header_of_a_client_names_no_proxy() -> None:
    """CGI passes `Proxy:` as HTTP_PROXY."""
    environ = {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}
    assert proxy_for("http://api.test", **environ) is None
    assert proxy_for("http://api.test", http_proxy=PROXY, **environ) == PROXY


LOOPBACK = [
    "127.0.0.1",
    "127.9.9.9",
    "127.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "localhost",
    "LocalHost",
]
LOOPBACK += ["localhost.", "a.localhost", "0.0.0.0", "[::]", "2130706433", "0x7f000001"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_is_never_reached_through_a_proxy(host: str) -> None:
    assert proxy_for(f"http://{host}:8000/v1", ALL_PROXY=PROXY, HTTP_PROXY=PROXY) is None


@pytest.mark.parametrize("host", ["128.0.0.1", "localhost.test", "notlocalhost", "cafe", "[::2]"])
def test_another_machine_is(host: str) -> None:
    assert proxy_for(f"http://{host}:8000/v1", ALL_PROXY=PROXY) == PROXY
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("entry", "host", "expected"),
    [
        ("api.test", "api.test", True), ("api.test", "v1.api.test", True),
        ("api.test", "myapi.test", False), (".api.test", "v1.api.test", True),
        (".api.test", "api.test", False), ("*.api.test", "v1.api.test", True),
        ("API.test", "api.TEST.", True), ("other, api.test ", "api.test", True),
        ("*", "api.test", True), ("api.test:443", "api.test", True), ("api.test:80", "api.test", False),
        ("10.1.2.3", "10.1.2.3", True), ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False), ("10.1.2.3:444", "10.1.2.3", False),
        ("10.1.2.3:443", "10.1.2.3", True), ("2001:db8::/32", "[2001:db8::1]", True),
        ("[2001:db8::1]:443", "[2001:db8::1]", True), ("10.0.0.0/8", "api.test", False),
        ("https://api.test", "api.test", True), ("http://api.test", "api.test", False),
        ("", "api.test", False), ("a:b:c", "api.test", False),
    ],
)  # fmt: skip
def test_no_proxy(entry: str, host: str, expected: bool) -> None:
    found = proxy_for(f"https://{host}/v1", ALL_PROXY=PROXY, NO_PROXY=entry)
    assert (found is None) is expected


REFUSED = {
    "socks5://u:secret@p.test:1080": "names a SOCKS proxy, and only HTTP proxies are supported",
    "SOCKS5h://p.test": "names a SOCKS proxy, and only HTTP proxies are supported",
    "socks4a://p.test": "names a SOCKS proxy, and only HTTP proxies are supported",
    "ftp://p.test": "names a proxy that begins with neither http:// nor https://",
    "http://": "is not the URL of a proxy",
    "http://p.test:99999": "is not the URL of a proxy",
    "http://u:secret@p.test:port": "is not the URL of a proxy",
    "http://[::1": "is not the URL of a proxy",
    "http://p test": "is not the URL of a proxy",
}


@pytest.mark.parametrize("url", REFUSED)
@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTPS_PROXY", "all_proxy"])
def test_a_proxy_that_cannot_be_used_is_refused_at_the_start(variable: str, url: str) -> None:
    """By the name of its variable, without the password in it."""
    table = {"upstreams": {"up": {"base_url": "https://api.test/v1"}}}
    with pytest.raises(SettingsError) as caught:
        read_table(table, {variable: url})
    assert caught.value.problems == (
        f"upstreams.up.base_url: {variable} {REFUSED[url]}; correct it, or add api.test to NO_PROXY",
    )


@pytest.mark.parametrize(
    "environ",
    [
        {"NO_PROXY": "api.test"},
        {"HTTPS_PROXY": PROXY},
        {"NO_PROXY": "*"},
    ],
)
def test_a_proxy_that_is_not_used_is_not_refused(environ: dict[str, str]) -> None:
    table = {"upstreams": {"up": {"base_url": ["https://api.test/v1", "http://localhost:1/v1"]}}}
    read_table(table, {"ALL_PROXY": "socks5://p.test", "HTTP_PROXY": "http://", **environ})


@pytest.mark.anyio
async def test_the_command_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Serving and probing alike."""
    monkeypatch.setenv("ALL_PROXY", "socks5://p.test:1080")
    for words in (["serve"], ["probe", "--model", "m"]):
        command = [*words, "--upstream", "https://api.test/v1"]
        assert await asyncio.to_thread(main, command) == 2
        assert capsys.readouterr().err == (
            "translator: --upstream: ALL_PROXY names a SOCKS proxy, and only HTTP proxies are "
            "supported; correct it, or add api.test to NO_PROXY\n"
        )


@pytest.mark.anyio
async def test_an_upstream_on_this_machine_gets_its_requests_itself(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy would get the key. A broken one that nobody uses does not matter, either."""
    async with ScriptedUpstream().running() as proxy:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("ALL_PROXY", "nonsense://")
        for host in ("127.0.0.1", "localhost"):
            url = upstream.url.replace("127.0.0.1", host)
            settings = make_settings(url, key="secret")
            async with client_of(settings) as client:
                answer = await bounded(client.post("/v1/responses", json=ASK))
            assert events(answer.content)[-1]["type"] == "response.completed"
        assert len(upstream.calls) == 2
        assert proxy.connections == 0


@pytest.mark.anyio
async def test_the_user_of_a_proxy_is_sent_to_it(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = upstream.url.removesuffix("/v1").replace("//", "//user:p%40ss@")
    monkeypatch.setenv("HTTP_PROXY", url)
    monkeypatch.setenv("NO_PROXY", "other.test")
    monkeypatch.setenv("no_proxy", "other.test")
    assert "http_proxy" not in os.environ
    async with client_of(make_settings("http://api.test/v1")) as client:
        answer = await bounded(client.post("/v1/responses", json=ASK))
    assert events(answer.content)[-1]["type"] == "response.completed"
    assert upstream.calls[0].headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"
