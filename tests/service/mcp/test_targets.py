"""Which servers may be used: patterns, addresses, names, and nothing that leads elsewhere."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from translator.service.config.mcp import Mcp, McpServer, UrlPattern, read_patterns
from translator.service.config.tools import Network
from translator.service.mcp.failures import McpFailed
from translator.service.mcp.servers import Target
from translator.service.mcp.targets import NoSuchServer, Targets
from translator.service.tools.addresses import AddressRules, parsed

from .serving import McpScript, answer, servers_of

pytestmark = pytest.mark.anyio


def patterns(*texts: str) -> tuple[UrlPattern, ...]:
    problems: list[str] = []
    found = read_patterns(texts, "tools.allow", problems)
    assert problems == []
    return tuple(found)


@pytest.mark.parametrize(
    ("pattern", "url", "expected"),
    [
        ("https://a.example", "https://a.example/mcp", True),
        ("https://a.example", "https://A.EXAMPLE./x?y=z", True),
        ("https://a.example", "https://a.example:443/", True),
        ("https://a.example", "https://a.example:444/", False),
        ("https://a.example", "http://a.example/", False),
        ("https://a.example", "https://b.a.example/", False),
        ("https://a.example", "https://a.example.evil/", False),
        ("https://a.example:8443", "https://a.example:8443/", True),
        ("https://a.example:8443", "https://a.example/", False),
        ("http://a.example", "http://a.example/", True),
        ("https://*.a.example", "https://b.a.example/", True),
        ("https://*.a.example", "https://c.b.a.example/", True),
        ("https://*.a.example", "https://a.example/", False),
        ("https://*.a.example", "https://eva.example/", False),
        ("https://a.example/mcp", "https://a.example/mcp", True),
        ("https://a.example/mcp/", "https://a.example/mcp/x", True),
        ("https://a.example/mcp", "https://a.example/mcpx", False),
        ("https://a.example/mcp", "https://a.example/other", False),
        ("https://a.example/mcp", "https://a.example/mcp/../other", False),
        ("https://a.example/mcp", "https://a.example/mcp/%2e%2e/other", False),
        ("https://a.example/mcp", "https://a.example/mcp/..;/other", False),
        ("https://a.example/mcp", "https://a.example/mcp/%5c..%5cother", False),
        ("https://bücher.example", "https://xn--bcher-kva.example/", True),
        ("https://xn--bcher-kva.example", "https://bücher.example/", True),
        ("https://[2001:db8::1]", "https://[2001:db8:0::1]/", True),
    ],
)
async def test_patterns_are_compared_with_parts(pattern: str, url: str, expected: bool) -> None:
    [one] = patterns(pattern)
    assert one.matches(parsed(url)) is expected


@pytest.mark.parametrize(
    "text",
    ["a.example", "ftp://a.example", "https://", "https://*", "https://*.com", "https://a.*.com", "https://u@a.com",
     "https://a.com/?x", "https://a.com/#x", "https://a.com/..", "https://a.com:0", "https://a.com:99999", "https://a b.com",
     "https://a.com/a\x07"],
)  # fmt: skip
async def test_what_is_no_pattern_is_said(text: str) -> None:
    problems: list[str] = []
    assert read_patterns((text,), "tools.allow", problems) == []
    [problem] = problems
    assert problem.startswith(f"tools.allow: {text!r} ")


ALLOWED = patterns("https://ok.example", "http://ok.example", "http://host.example:81")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://0x7f.1/",
        "http://2130706433/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "https://ok.example@evil.example/",
        "https://user:pass@ok.example/",
        "https://ok.example\\@evil.example/",
        "https://ok.example:22/",
        "https://evil.example/#https://ok.example",
        "https://evil.example/https://ok.example",
        "file:///etc/passwd",
        "gopher://ok.example/",
        "https://ok.example /",
        "//ok.example/",
        "",
        "https://" + "a" * 5000,
    ],
)
async def test_30_a_url_outside_the_rules_is_refused(url: str) -> None:
    targets = Targets(Mcp(allow=ALLOWED), AddressRules())
    with pytest.raises(NoSuchServer):
        targets.of_client("me", url, {})


async def test_30_even_a_pattern_for_everything_opens_no_private_address() -> None:
    allow = patterns(
        "http://127.0.0.1", "http://10.0.0.1", "http://[::1]", "http://169.254.169.254"
    )
    targets = Targets(Mcp(allow=allow), AddressRules())
    for host in ("127.0.0.1", "10.0.0.1", "[::1]", "169.254.169.254"):
        with pytest.raises(NoSuchServer, match="private network"):
            targets.of_client("me", f"http://{host}/", {})


@asynccontextmanager
async def counting() -> AsyncGenerator[tuple[int, list[int]]]:
    """A port on this machine, and how many connections it has had."""
    accepted: list[int] = []

    def connected(_reader: Any, writer: asyncio.StreamWriter) -> None:
        accepted.append(1)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], accepted


def read_networks(text: str) -> list[Network]:
    return [ipaddress.ip_network(text)]


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Have the names of the tests resolve to these addresses, lookup by lookup."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: str, port: Any, *more: Any, **others: Any) -> Any:
        if not str(host).endswith(".example"):
            return real(host, port, *more, **others)
        found = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["10.1.2.3"], ["93.184.216.34", "127.0.0.1"]])
async def test_30_a_host_with_a_private_address_is_not_connected_to(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolving(monkeypatch, addresses)
    async with counting() as (port, accepted):
        [pattern] = patterns(f"http://host.example:{port}")
        targets = Targets(Mcp(allow=(pattern,)), AddressRules())
        one = targets.of_client("me", f"http://host.example:{port}/mcp", {})
        async with servers_of() as servers:
            with pytest.raises(McpFailed, match="private network"):
                await servers.tools(one)
    assert (asked, accepted) == (["host.example"], [])


async def test_30_a_second_lookup_is_judged_like_the_first(
    script: McpScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address of the first lookup is allowed here, that of the second one is not."""
    asked = resolving(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
    rules = AddressRules(allow_private=read_networks("127.0.0.1/32"))
    one = Target("me", f"http://host.example:{script.port}/mcp", {}, checked=True)
    script.instead = lambda _asked: answer(503, b"", ("connection", "close"))
    async with servers_of(rules) as servers:
        with pytest.raises(McpFailed, match="HTTP 503"):
            await servers.tools(one)
        with pytest.raises(McpFailed, match="private network"):
            await servers.tools(one)
    assert asked == ["host.example"] * 2
    assert len(script.asked) == 1


async def test_30_a_redirect_to_a_private_address_is_not_followed(script: McpScript) -> None:
    async with counting() as (port, accepted):
        script.instead = lambda _asked: answer(307, b"", ("location", f"http://127.0.0.1:{port}/"))
        rules = AddressRules(allow_private=read_networks("127.0.0.1/32"))
        async with servers_of(rules) as servers:
            with pytest.raises(McpFailed, match="HTTP 307"):
                await servers.tools(Target("me", script.url, {}, checked=True))
    assert accepted == []


async def test_the_service_itself_is_no_server(script: McpScript) -> None:
    networks = read_networks("127.0.0.0/8")
    rules = AddressRules(allow_private=networks, own_ports=[script.port])
    [pattern] = patterns(f"http://127.0.0.1:{script.port}")
    with pytest.raises(NoSuchServer, match="leads back"):
        Targets(Mcp(allow=(pattern,)), rules).of_client("me", script.url, {})
    async with servers_of(rules) as servers:
        with pytest.raises(McpFailed, match="leads back"):
            await servers.tools(Target("me", script.url, {}, checked=True))
    assert script.asked == []


SERVERS = {
    "open": McpServer(name="open", url="http://up.test/mcp?key=planted", headers={"authorization": "Bearer own", "x-team": "a"}),
    "closed": McpServer(name="closed", url="http://closed.test/mcp", headers={}, clients=("ann",)),
}  # fmt: skip


def may_bob(server: McpServer) -> bool:
    return server.clients is None


async def test_servers_of_the_operator_are_used_by_name() -> None:
    targets = Targets(Mcp(servers=SERVERS), AddressRules())
    one = targets.of_operator("me", "open", {"x-team": "b", "x-more": "c"}, may_bob)
    assert one.url == "http://up.test/mcp?key=planted"
    assert one.headers == {"authorization": "Bearer own", "x-team": "a", "x-more": "c"}
    assert not one.checked
    other = targets.of_operator("me", "open", {"authorization": "Bearer mine"}, may_bob)
    assert other.headers["authorization"] == "Bearer mine"
    assert (
        targets.of_operator("me", "closed", {}, lambda _one: True).url == "http://closed.test/mcp"
    )
    assert one.key != other.key
    assert "planted" not in repr(SERVERS["open"])


async def test_a_server_that_is_not_for_a_client_is_as_unknown_as_one_that_is_not_there() -> None:
    targets = Targets(Mcp(servers=SERVERS), AddressRules())
    for label in ("closed", "absent"):
        with pytest.raises(NoSuchServer) as raised:
            targets.of_operator("me", label, {}, may_bob)
        assert (
            str(raised.value) == f"This service has no MCP server named '{label}'; there are open."
        )
    with pytest.raises(NoSuchServer, match="the setting `allow`"):
        targets.of_client("me", "https://a.example/", {})
